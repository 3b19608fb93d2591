output "bucket_name" {
  description = "Name of the bucket of invoices and credit notes."
  value       = aws_s3_bucket.documents.bucket
}

output "bucket_arn" {
  description = "ARN of the bucket."
  value       = aws_s3_bucket.documents.arn
}

output "documents_url" {
  description = "Value of `ORDERFLOW_DOCUMENTS_URL` for ingress and documents."
  value       = "s3://${aws_s3_bucket.documents.bucket}"
}

output "ecr_repository_url" {
  description = "Where images are pushed and pulled, without a tag."
  value       = aws_ecr_repository.this.repository_url
}

output "ecr_repository_arn" {
  description = "ARN of the repository of images."
  value       = aws_ecr_repository.this.arn
}

output "key_arn" {
  description = "ARN of the key of documents and images."
  value       = module.key.arn
}
