# CloudWatch notices what the rules of k8s/observability do where a Prometheus scrapes RabbitMQ.
locals {
  ratios = {
    memory = {
      description = "RabbitMQ is near its memory limit, above which it takes no messages: docs/runbooks/rabbitmq-alarm.md."
      ratio       = { of = "RabbitMQMemUsed", stat = "Maximum", to = "RabbitMQMemLimit" }
      comparison  = "GreaterThanThreshold"
      threshold   = 0.9
    }
    disk = {
      description = "RabbitMQ has less than twice the free disk below which it takes no messages: docs/runbooks/rabbitmq-alarm.md."
      ratio       = { of = "RabbitMQDiskFree", stat = "Minimum", to = "RabbitMQDiskFreeLimit" }
      comparison  = "LessThanThreshold"
      threshold   = 2
    }
  }

  counts = {
    messages = {
      description = "Messages wait in RabbitMQ: docs/runbooks/backlog-growing.md."
      metric      = "MessageReadyCount"
      stat        = "Minimum"
      comparison  = "GreaterThanThreshold"
      threshold   = var.ready_messages_at_most
    }
    consumers = {
      description = "Fewer consumers than the apps have with two processes each: docs/runbooks/no-consumer.md."
      metric      = "ConsumerCount"
      stat        = "Maximum"
      comparison  = "LessThanThreshold"
      threshold   = var.consumers_at_least
    }
  }
}

resource "aws_sns_topic" "alarms" {
  name              = "${var.name}-rabbitmq-alarms"
  kms_master_key_id = module.key.arn
}

resource "aws_sns_topic_subscription" "email" {
  for_each = var.alarm_emails

  topic_arn = aws_sns_topic.alarms.arn
  protocol  = "email"
  endpoint  = each.key
}

# Of several nodes the worst counts. Where the broker says nothing at all, that is an alarm too.
resource "aws_cloudwatch_metric_alarm" "ratio" {
  for_each = local.ratios

  alarm_name          = "${var.name}-rabbitmq-${each.key}"
  alarm_description   = each.value.description
  comparison_operator = each.value.comparison
  threshold           = each.value.threshold
  evaluation_periods  = 2
  treat_missing_data  = "breaching"
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]

  metric_query {
    id          = "ratio"
    expression  = "now / limit"
    label       = "${each.value.ratio.of} / ${each.value.ratio.to}"
    return_data = true
  }

  metric_query {
    id = "now"

    metric {
      namespace   = "AWS/AmazonMQ"
      metric_name = each.value.ratio.of
      dimensions  = { Broker = aws_mq_broker.this.broker_name }
      stat        = each.value.ratio.stat
      period      = 60
    }
  }

  metric_query {
    id = "limit"

    metric {
      namespace   = "AWS/AmazonMQ"
      metric_name = each.value.ratio.to
      dimensions  = { Broker = aws_mq_broker.this.broker_name }
      stat        = "Maximum"
      period      = 60
    }
  }
}

# A rollout or a burst is over within ten minutes.
resource "aws_cloudwatch_metric_alarm" "count" {
  for_each = local.counts

  alarm_name          = "${var.name}-rabbitmq-${each.key}"
  alarm_description   = each.value.description
  namespace           = "AWS/AmazonMQ"
  metric_name         = each.value.metric
  dimensions          = { Broker = aws_mq_broker.this.broker_name }
  statistic           = each.value.stat
  period              = 60
  comparison_operator = each.value.comparison
  threshold           = each.value.threshold
  evaluation_periods  = 10
  treat_missing_data  = "breaching"
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]
}
