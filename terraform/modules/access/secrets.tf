module "key" {
  source = "../key"

  name        = "${local.name}-secrets"
  description = "Secrets of the apps in ${var.environment}."
}

# Without content: `orderflow users secrets` makes it and the AWS CLI puts it there, so that no state holds it.
resource "aws_secretsmanager_secret" "this" {
  for_each = var.secret_readers

  name                    = "orderflow/${var.environment}/${each.key}"
  description             = "What ${each.key} finds under /run/secrets, as JSON: a key per file."
  kms_key_id              = module.key.arn
  recovery_window_in_days = 30
}

module "external_secrets_role" {
  source = "../pod-role"

  name              = "${local.name}-external-secrets"
  oidc_provider_arn = var.oidc_provider_arn
  oidc_issuer_url   = var.oidc_issuer_url
  namespace         = local.namespace
  service_account   = "external-secrets"

  statements = [
    {
      Sid      = "ReadSecrets"
      Effect   = "Allow"
      Action   = ["secretsmanager:GetSecretValue", "secretsmanager:DescribeSecret"]
      Resource = [for reader in sort(var.secret_readers) : aws_secretsmanager_secret.this[reader].arn]
    },
    {
      Sid       = "DecryptSecrets"
      Effect    = "Allow"
      Action    = "kms:Decrypt"
      Resource  = module.key.arn
      Condition = { StringEquals = { "kms:ViaService" = "secretsmanager.${data.aws_region.current.name}.amazonaws.com" } }
    },
  ]
}
