output "cluster_name" {
  description = "Name of the cluster, for `aws eks update-kubeconfig`."
  value       = module.system.cluster_name
}

output "cluster_endpoint" {
  description = "URL of the API server."
  value       = module.system.cluster_endpoint
}

output "cluster_key_arn" {
  description = "ARN of the key for volumes, for a StorageClass."
  value       = module.system.cluster_key_arn
}

output "vpc_id" {
  description = "Id of the network, for a PrivateLink endpoint of Atlas."
  value       = module.system.vpc_id
}

output "vpc_cidr" {
  description = "Range of the network."
  value       = module.system.vpc_cidr
}

output "private_subnet_ids" {
  description = "Ids of the private subnets, one per zone."
  value       = module.system.private_subnet_ids
}

output "data_subnet_ids" {
  description = "Ids of the data subnets, one per zone, for a PrivateLink endpoint of Atlas."
  value       = module.system.data_subnet_ids
}

output "data_subnet_cidrs" {
  description = "Ranges of the data subnets, for the network policy `external-services`."
  value       = module.system.data_subnet_cidrs
}

output "nat_public_ips" {
  description = "Addresses that the apps come from, for others' allow lists."
  value       = module.system.nat_public_ips
}

output "rabbitmq_endpoint" {
  description = "Where the apps reach RabbitMQ: `amqps://HOST:5671`."
  value       = module.system.rabbitmq_endpoint
}

output "rabbitmq_management_url" {
  description = "Where `orderflow users apply` reaches the management API."
  value       = module.system.rabbitmq_management_url
}

output "rabbitmq_admin_secret_arn" {
  description = "ARN of the secret with RabbitMQ's first administrator."
  value       = module.system.rabbitmq_admin_secret_arn
}

output "rabbitmq_alarm_topic_arn" {
  description = "ARN of the SNS topic that RabbitMQ's alarms go to, for subscribers other than mailboxes."
  value       = module.system.rabbitmq_alarm_topic_arn
}

output "documentdb_endpoint" {
  description = "Host of DocumentDB; null without it."
  value       = module.system.documentdb_endpoint
}

output "documentdb_url_options" {
  description = "What MongoDB URLs must end with on DocumentDB; null without it."
  value       = module.system.documentdb_url_options
}

output "documentdb_admin_secret_arn" {
  description = "ARN of the secret with DocumentDB's administrator; null without it."
  value       = module.system.documentdb_admin_secret_arn
}

output "bucket_name" {
  description = "Name of the bucket of invoices and credit notes."
  value       = module.system.bucket_name
}

output "documents_url" {
  description = "Value of `ORDERFLOW_DOCUMENTS_URL`."
  value       = module.system.documents_url
}

output "ecr_repository_url" {
  description = "Where images are pushed and pulled, without a tag."
  value       = module.system.ecr_repository_url
}

output "app_role_arns" {
  description = "Roles of the apps that use AWS, by app."
  value       = module.system.app_role_arns
}

output "app_subjects" {
  description = "Service accounts that may take these roles, by app."
  value       = module.system.app_subjects
}

output "external_secrets_role_arn" {
  description = "Role with which External Secrets reads the apps' secrets."
  value       = module.system.external_secrets_role_arn
}

output "secret_arns" {
  description = "ARNs of the apps' secrets, by reader."
  value       = module.system.secret_arns
}

output "deploy_role_arn" {
  description = "Role of the deploy workflow."
  value       = module.system.deploy_role_arn
}
