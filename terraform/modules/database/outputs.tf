output "arn" {
  description = "ARN of the database cluster."
  value       = aws_docdb_cluster.this.arn
}

output "endpoint" {
  description = "Host of the instance that writes; the replica set is `rs0`, the port 27017."
  value       = aws_docdb_cluster.this.endpoint
}

output "url_options" {
  description = "What the apps' MongoDB URLs must end with: TLS, and no retryable writes, which DocumentDB lacks."
  value       = "tls=true&replicaSet=rs0&retryWrites=false"
}

output "admin_secret_arn" {
  description = "ARN of the secret with the administrator's username and password, which AWS changes every week."
  value       = aws_docdb_cluster.this.master_user_secret[0].secret_arn
}

output "key_arn" {
  description = "ARN of the key of documents, backups and logs."
  value       = module.key.arn
}
