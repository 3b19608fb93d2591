output "app_role_arns" {
  description = "Roles of the apps that use AWS, by app: `AWS_ROLE_ARN` of documents and ingress."
  value       = { for app, role in module.app_role : app => role.arn }
}

output "app_subjects" {
  description = "Service accounts that may take these roles, by app."
  value       = { for app, role in module.app_role : app => role.subject }
}

output "external_secrets_role_arn" {
  description = "Role with which External Secrets reads the apps' secrets."
  value       = module.external_secrets_role.arn
}

output "secret_arns" {
  description = "ARNs of the apps' secrets, by reader."
  value       = { for reader, secret in aws_secretsmanager_secret.this : reader => secret.arn }
}

output "deploy_role_arn" {
  description = "Role of the deploy workflow."
  value       = aws_iam_role.deploy.arn
}

output "key_arn" {
  description = "ARN of the key of the apps' secrets."
  value       = module.key.arn
}
