mock_provider "aws" {
  source          = "./tests/mocks"
  override_during = plan
}

variables {
  name                     = "orderflow-test"
  vpc_id                   = "vpc-1"
  subnet_ids               = ["subnet-1", "subnet-2", "subnet-3"]
  client_security_group_id = "sg-00000000000000001"
  instance_type            = "mq.m7g.large"
  alarm_emails             = ["operations@shop.example"]
}

run "three_private_nodes" {
  command = plan

  module {
    source = "./modules/queue"
  }

  assert {
    condition     = aws_mq_broker.this.deployment_mode == "CLUSTER_MULTI_AZ" && length(aws_mq_broker.this.subnet_ids) == 3
    error_message = "The broker has a node in each of three zones."
  }

  assert {
    condition     = !aws_mq_broker.this.publicly_accessible
    error_message = "The broker is not reached from outside."
  }

  assert {
    condition     = length(aws_mq_broker.this.encryption_options) == 0
    error_message = "Amazon MQ refuses encryption options for RabbitMQ; it encrypts by itself."
  }

  assert {
    condition     = aws_mq_broker.this.logs[0].general && aws_mq_broker.this.auto_minor_version_upgrade
    error_message = "The broker writes a log and gets its patches."
  }

  assert {
    condition     = aws_mq_broker.this.engine_version == "4.2" && strcontains(aws_mq_configuration.this.data, "consumer_timeout = 1800000")
    error_message = "It is RabbitMQ 4.2, and a message may be in work for 30 minutes."
  }

  assert {
    condition = alltrue([for rule in aws_vpc_security_group_ingress_rule.clients :
      rule.referenced_security_group_id == var.client_security_group_id && rule.cidr_ipv4 == null
    ])
    error_message = "Only the cluster reaches the broker."
  }

  assert {
    condition     = sort([for rule in aws_vpc_security_group_ingress_rule.clients : tostring(rule.from_port)]) == tolist(["16001", "16002", "16003", "443", "5671"])
    error_message = "The broker is reached by TLS only: AMQP, the management API and the metrics of each node."
  }

  assert {
    condition     = aws_secretsmanager_secret.admin.kms_key_id == module.key.arn && aws_secretsmanager_secret_version.admin.secret_string == null
    error_message = "The administrator's secret is encrypted with a key of ours, and its content is not in the state."
  }
}

run "somebody_is_told_of_alarms" {
  command = plan

  module {
    source = "./modules/queue"
  }

  assert {
    condition = { for name, alarm in aws_cloudwatch_metric_alarm.ratio : name => [for query in alarm.metric_query :
      one(query.metric[*]).metric_name if length(query.metric) > 0
    ] } == { memory = ["RabbitMQMemLimit", "RabbitMQMemUsed"], disk = ["RabbitMQDiskFreeLimit", "RabbitMQDiskFree"] }
    error_message = "Memory and disk are watched against the limits at which RabbitMQ blocks."
  }

  assert {
    condition = { for name, alarm in aws_cloudwatch_metric_alarm.count : name => "${alarm.metric_name} ${alarm.threshold}" } == {
      messages  = "MessageReadyCount 5000"
      consumers = "ConsumerCount 70"
    }
    error_message = "Messages that wait are watched, and that every queue has its consumers."
  }

  assert {
    condition = alltrue([for alarm in concat(values(aws_cloudwatch_metric_alarm.ratio), values(aws_cloudwatch_metric_alarm.count)) :
      alarm.alarm_actions == toset([aws_sns_topic.alarms.arn]) && alarm.treat_missing_data == "breaching"
    ])
    error_message = "Every alarm is told, and a broker that says nothing is one."
  }

  assert {
    condition     = aws_sns_topic.alarms.kms_master_key_id == module.key.arn && toset(keys(aws_sns_topic_subscription.email)) == toset(["operations@shop.example"])
    error_message = "Alarms reach the named mailboxes, through a topic that is encrypted with a key of ours."
  }
}

run "bad_input_is_refused" {
  command = plan

  module {
    source = "./modules/queue"
  }

  variables {
    name               = "orderflow test"
    subnet_ids         = ["subnet-1"]
    engine_version     = "3.12"
    instance_type      = "mq.t3.micro"
    maintenance_window = { day_of_week = "Tue", time_of_day = "3am" }

    alarm_emails           = []
    ready_messages_at_most = 0
    consumers_at_least     = 0
  }

  expect_failures = [
    var.name, var.subnet_ids, var.engine_version, var.instance_type, var.maintenance_window, var.alarm_emails,
    var.ready_messages_at_most, var.consumers_at_least,
  ]
}
