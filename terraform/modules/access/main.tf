locals {
  namespace = "orderflow"
  name      = "orderflow-${var.environment}"

  via_s3 = "s3.${data.aws_region.current.name}.amazonaws.com"

  # What an app may do in AWS; who is not named here has no role at all.
  apps = {
    documents = [
      {
        Sid      = "WriteDocuments"
        Effect   = "Allow"
        Action   = "s3:PutObject"
        Resource = "${var.bucket_arn}/invoices/*"
      },
      {
        # A document is below the size at which it would go up in parts, for which the key must decrypt too.
        Sid       = "EncryptDocuments"
        Effect    = "Allow"
        Action    = "kms:GenerateDataKey"
        Resource  = var.bucket_key_arn
        Condition = { StringEquals = { "kms:ViaService" = local.via_s3 } }
      },
    ]
    ingress = [
      {
        Sid      = "ReadDocuments"
        Effect   = "Allow"
        Action   = "s3:GetObject"
        Resource = "${var.bucket_arn}/invoices/*"
      },
      {
        Sid       = "DecryptDocuments"
        Effect    = "Allow"
        Action    = "kms:Decrypt"
        Resource  = var.bucket_key_arn
        Condition = { StringEquals = { "kms:ViaService" = local.via_s3 } }
      },
    ]
  }
}

data "aws_region" "current" {}

module "app_role" {
  source   = "../pod-role"
  for_each = local.apps

  name              = "${local.name}-${each.key}"
  oidc_provider_arn = var.oidc_provider_arn
  oidc_issuer_url   = var.oidc_issuer_url
  namespace         = local.namespace
  service_account   = each.key
  statements        = each.value
}
