locals {
  # `5.0.0` has the parameter family docdb5.0.
  family = "docdb${join(".", slice(split(".", var.engine_version), 0, 2))}"
}

module "key" {
  source = "../key"

  name        = "${var.name}-database"
  description = "Documents, backups and logs of the database ${var.name}."
  used_by     = ["logs"]
}

resource "aws_docdb_subnet_group" "this" {
  name        = var.name
  description = "Private subnets of the database ${var.name}."
  subnet_ids  = var.subnet_ids
}

resource "aws_security_group" "this" {
  name        = "${var.name}-database"
  description = "The MongoDB protocol, by TLS, from the cluster."
  vpc_id      = var.vpc_id

  tags = { Name = "${var.name}-database" }
}

resource "aws_vpc_security_group_ingress_rule" "clients" {
  security_group_id            = aws_security_group.this.id
  description                  = "MongoDB protocol from the cluster."
  referenced_security_group_id = var.client_security_group_id
  ip_protocol                  = "tcp"
  from_port                    = 27017
  to_port                      = 27017
}

resource "aws_docdb_cluster_parameter_group" "this" {
  name        = var.name
  description = "TLS only, and an audit log."
  family      = local.family

  parameter {
    name  = "tls"
    value = "enabled"
  }

  parameter {
    name  = "audit_logs"
    value = "enabled"
  }

  parameter {
    name  = "profiler"
    value = "enabled"
  }

  parameter {
    name  = "profiler_threshold_ms"
    value = "250"
  }

  # Webhook deliveries and dead letters leave by TTL indexes.
  parameter {
    name  = "ttl_monitor"
    value = "enabled"
  }
}

# Made ahead: DocumentDB would make them without encryption, and keep them for ever.
resource "aws_cloudwatch_log_group" "this" {
  for_each = toset(["audit", "profiler"])

  name              = "/aws/docdb/${var.name}/${each.key}"
  retention_in_days = var.log_retention_days
  kms_key_id        = module.key.arn
}

resource "aws_docdb_cluster" "this" {
  cluster_identifier = var.name
  engine             = "docdb"
  engine_version     = var.engine_version

  # AWS makes the password, keeps it in Secrets Manager and changes it every week: Terraform never sees it.
  master_username             = "orderflow_topology"
  manage_master_user_password = true

  storage_encrypted               = true
  kms_key_id                      = module.key.arn
  db_subnet_group_name            = aws_docdb_subnet_group.this.name
  vpc_security_group_ids          = [aws_security_group.this.id]
  db_cluster_parameter_group_name = aws_docdb_cluster_parameter_group.this.name
  enabled_cloudwatch_logs_exports = ["audit", "profiler"]

  backup_retention_period      = var.backup_retention_days
  preferred_backup_window      = "01:00-02:00"
  preferred_maintenance_window = "wed:03:00-wed:04:00"
  apply_immediately            = false

  deletion_protection       = var.deletion_protection
  skip_final_snapshot       = !var.deletion_protection
  final_snapshot_identifier = var.deletion_protection ? "${var.name}-final" : null

  depends_on = [aws_cloudwatch_log_group.this]
}

resource "aws_docdb_cluster_instance" "this" {
  count = var.instance_count

  identifier                 = "${var.name}-${count.index}"
  cluster_identifier         = aws_docdb_cluster.this.id
  instance_class             = var.instance_class
  auto_minor_version_upgrade = true
  apply_immediately          = false
  ca_cert_identifier         = "rds-ca-rsa2048-g1"
  copy_tags_to_snapshot      = true
}
