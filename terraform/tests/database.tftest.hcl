mock_provider "aws" {
  source          = "./tests/mocks"
  override_during = plan
}

variables {
  name                     = "orderflow-test"
  vpc_id                   = "vpc-1"
  subnet_ids               = ["subnet-1", "subnet-2", "subnet-3"]
  client_security_group_id = "sg-00000000000000001"
  instance_class           = "db.r6g.large"
  instance_count           = 3
}

run "encrypted_backed_up_and_kept" {
  command = plan

  module {
    source = "./modules/database"
  }

  assert {
    condition     = aws_docdb_cluster.this.storage_encrypted && aws_docdb_cluster.this.kms_key_id == module.key.arn
    error_message = "Documents and backups are encrypted with a key of ours."
  }

  assert {
    condition     = aws_docdb_cluster.this.deletion_protection && !aws_docdb_cluster.this.skip_final_snapshot && aws_docdb_cluster.this.final_snapshot_identifier == "orderflow-test-final"
    error_message = "The database refuses to be deleted, and would leave a snapshot."
  }

  assert {
    condition     = aws_docdb_cluster.this.backup_retention_period == 35
    error_message = "Backups reach 35 days back."
  }

  assert {
    condition     = aws_docdb_cluster.this.manage_master_user_password && aws_docdb_cluster.this.master_password == null
    error_message = "AWS keeps the administrator's password; no state holds it."
  }

  assert {
    condition     = { for parameter in aws_docdb_cluster_parameter_group.this.parameter : parameter.name => parameter.value }["tls"] == "enabled"
    error_message = "Connections are by TLS."
  }

  assert {
    condition     = aws_docdb_cluster_parameter_group.this.family == "docdb5.0" && length(aws_docdb_cluster_instance.this) == 3
    error_message = "It is DocumentDB 5.0 with three instances."
  }

  assert {
    condition     = alltrue([for group in aws_cloudwatch_log_group.this : group.kms_key_id == module.key.arn])
    error_message = "Its logs are encrypted with a key of ours."
  }

  assert {
    condition     = aws_vpc_security_group_ingress_rule.clients.referenced_security_group_id == var.client_security_group_id && aws_vpc_security_group_ingress_rule.clients.from_port == 27017
    error_message = "Only the cluster reaches the database."
  }

  assert {
    condition     = strcontains(output.url_options, "retryWrites=false") && strcontains(output.url_options, "tls=true")
    error_message = "DocumentDB has no retryable writes; its URL must say so."
  }
}

run "bad_input_is_refused" {
  command = plan

  module {
    source = "./modules/database"
  }

  variables {
    name                  = "1st"
    subnet_ids            = ["subnet-1", "subnet-2"]
    engine_version        = "4.0.0"
    instance_class        = "r6g.large"
    instance_count        = 1
    backup_retention_days = 1
    log_retention_days    = 1
  }

  expect_failures = [
    var.name, var.subnet_ids, var.engine_version, var.instance_class, var.instance_count, var.backup_retention_days,
    var.log_retention_days,
  ]
}
