output "arn" {
  description = "ARN of the role, for the annotation `eks.amazonaws.com/role-arn` of its service account."
  value       = aws_iam_role.this.arn
}

output "subject" {
  description = "Who may take the role, as the token of its service account says it."
  value       = "system:serviceaccount:${var.namespace}:${var.service_account}"
}
