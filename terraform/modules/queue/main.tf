module "key" {
  source = "../key"

  name        = "${var.name}-queue"
  description = "Administrator and alarms of the broker ${var.name}."
  used_by     = ["alarms"]
}

resource "aws_security_group" "this" {
  name        = "${var.name}-queue"
  description = "AMQP, management API and metrics of the broker ${var.name}, by TLS, from the cluster."
  vpc_id      = var.vpc_id

  tags = { Name = "${var.name}-queue" }
}

resource "aws_vpc_security_group_ingress_rule" "clients" {
  # From 4.2 on each node shows its metrics at a port of its own.
  for_each = { amqps = 5671, management = 443, metrics-1 = 16001, metrics-2 = 16002, metrics-3 = 16003 }

  security_group_id            = aws_security_group.this.id
  description                  = "${each.key} from the cluster."
  referenced_security_group_id = var.client_security_group_id
  ip_protocol                  = "tcp"
  from_port                    = each.value
  to_port                      = each.value
}

resource "aws_mq_configuration" "this" {
  name           = var.name
  description    = "What the apps count on."
  engine_type    = "RabbitMQ"
  engine_version = var.engine_version

  # A handler waits for a dependency in place for up to 8 minutes and at most 20 (ORDERFLOW_WAIT_IN_PLACE_SECONDS);
  # RabbitMQ must not take the message back before.
  data = <<-CONF
    consumer_timeout = 1800000
  CONF
}

# Read anew at each plan; only the first value is ever used.
data "aws_secretsmanager_random_password" "first" {
  password_length     = 40
  exclude_punctuation = true
}

# Amazon MQ refuses a customer key for RabbitMQ: messages are encrypted with one of AWS.
resource "aws_mq_broker" "this" {
  broker_name                = var.name
  engine_type                = "RabbitMQ"
  engine_version             = var.engine_version
  host_instance_type         = var.instance_type
  deployment_mode            = "CLUSTER_MULTI_AZ"
  publicly_accessible        = false
  subnet_ids                 = var.subnet_ids
  security_groups            = [aws_security_group.this.id]
  auto_minor_version_upgrade = true
  apply_immediately          = false

  configuration {
    id       = aws_mq_configuration.this.id
    revision = aws_mq_configuration.this.latest_revision
  }

  logs {
    general = true
  }

  maintenance_window_start_time {
    day_of_week = var.maintenance_window.day_of_week
    time_of_day = var.maintenance_window.time_of_day
    time_zone   = "UTC"
  }

  user {
    username = "orderflow-topology"
    password = data.aws_secretsmanager_random_password.first.random_password
  }

  lifecycle {
    # RabbitMQ's own users are its own business from then on; the password here is changed at once (README).
    ignore_changes = [user]
  }
}

resource "aws_secretsmanager_secret" "admin" {
  name                    = "${var.name}/rabbitmq-administrator"
  description             = "First administrator of the broker ${var.name}: username and password."
  kms_key_id              = module.key.arn
  recovery_window_in_days = 30
}

resource "aws_secretsmanager_secret_version" "admin" {
  secret_id = aws_secretsmanager_secret.admin.id

  # What the broker really took, also where an earlier apply ended half-way. Written once: whoever changes the
  # password writes the new one here by the AWS CLI, and Terraform never sees it.
  secret_string_wo = jsonencode({
    username = "orderflow-topology"
    password = one(aws_mq_broker.this.user[*].password)
  })
  secret_string_wo_version = 1
}
