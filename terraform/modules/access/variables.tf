variable "environment" {
  description = "Name of the environment: of its secrets, its roles, and the environment in GitHub."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,19}$", var.environment))
    error_message = "environment: 2 to 20 lower-case letters, digits and hyphens, a letter first."
  }
}

variable "cluster_name" {
  description = "Name of the cluster."
  type        = string
}

variable "cluster_arn" {
  description = "ARN of the cluster."
  type        = string
}

variable "oidc_provider_arn" {
  description = "ARN of the cluster's OpenID Connect provider."
  type        = string
}

variable "oidc_issuer_url" {
  description = "Issuer of the tokens of the cluster's service accounts."
  type        = string
}

variable "bucket_arn" {
  description = "ARN of the bucket of invoices and credit notes."
  type        = string
}

variable "bucket_key_arn" {
  description = "ARN of the key that the bucket is encrypted with."
  type        = string
}

variable "secret_readers" {
  description = "Who has a secret of its own: every app, and the job that makes their users."
  type        = set(string)
  default     = ["ingress", "orders", "stock", "billing", "notifications", "recovery", "webhooks", "documents", "topology"]

  validation {
    condition     = alltrue([for reader in var.secret_readers : can(regex("^[a-z][a-z0-9-]*$", reader))])
    error_message = "secret_readers: lower-case letters, digits and hyphens, a letter first."
  }
}

variable "github_repository" {
  description = "Repository whose jobs may deploy: `owner/name`."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9._-]+$", var.github_repository))
    error_message = "github_repository: one repository as owner/name, without wildcards."
  }
}

variable "github_oidc_provider_arn" {
  description = "ARN of the account's OpenID Connect provider of GitHub; without it, one is made."
  type        = string
  default     = null

  validation {
    condition     = var.github_oidc_provider_arn == null || can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:oidc-provider/token\\.actions\\.githubusercontent\\.com$", var.github_oidc_provider_arn))
    error_message = "github_oidc_provider_arn: the ARN of the provider token.actions.githubusercontent.com."
  }
}
