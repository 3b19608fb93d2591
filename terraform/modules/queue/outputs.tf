output "arn" {
  description = "ARN of the broker."
  value       = aws_mq_broker.this.arn
}

output "amqps_endpoint" {
  description = "Where the apps reach RabbitMQ: `amqps://HOST:5671`."
  value       = [for endpoint in aws_mq_broker.this.instances[0].endpoints : endpoint if startswith(endpoint, "amqps://")][0]
}

output "management_url" {
  description = "Where `orderflow users apply` and KEDA reach the management API."
  value       = aws_mq_broker.this.instances[0].console_url
}

output "admin_secret_arn" {
  description = "ARN of the secret with the first administrator's username and password."
  value       = aws_secretsmanager_secret.admin.arn
}

output "alarm_topic_arn" {
  description = "ARN of the SNS topic of the alarms, for subscribers other than mailboxes."
  value       = aws_sns_topic.alarms.arn
}

output "key_arn" {
  description = "ARN of the key of the administrator's secret and of the alarms."
  value       = module.key.arn
}
