variable "name" {
  description = "Name of the role."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,63}$", var.name))
    error_message = "name: lower-case letters, digits and hyphens, 64 at most, a letter first."
  }
}

variable "oidc_provider_arn" {
  description = "ARN of the cluster's OpenID Connect provider."
  type        = string
}

variable "oidc_issuer_url" {
  description = "Issuer of the tokens of the cluster's service accounts."
  type        = string

  validation {
    condition     = startswith(var.oidc_issuer_url, "https://")
    error_message = "oidc_issuer_url: must begin with https://."
  }
}

variable "namespace" {
  description = "Namespace of the service account."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", var.namespace))
    error_message = "namespace: the name of one namespace, without wildcards."
  }
}

variable "service_account" {
  description = "Name of the one service account that may take the role."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", var.service_account))
    error_message = "service_account: the name of one service account, without wildcards."
  }
}

variable "statements" {
  description = "Statements of the role's own policy, as IAM writes them; none without."
  type        = any
  default     = null
}

variable "policy_arns" {
  description = "Managed policies of the role, by a name of your choice."
  type        = map(string)
  default     = {}
}
