variable "account_id" {
  description = "The AWS account; with the credentials of another one nothing is done."
  type        = string

  validation {
    condition     = can(regex("^[0-9]{12}$", var.account_id))
    error_message = "account_id: twelve digits."
  }
}

variable "region" {
  description = "The AWS region."
  type        = string

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "region: such as eu-west-1."
  }
}

variable "owner" {
  description = "Who answers for it: the tag `Owner` of everything."
  type        = string
}

variable "alarm_emails" {
  description = "Mailboxes that RabbitMQ's alarms go to; each confirms once."
  type        = set(string)
}

variable "admin_role_arns" {
  description = "Roles of people who administer the cluster, by a name of your choice."
  type        = map(string)
}

variable "public_access_cidrs" {
  description = "Ranges from which the cluster's API server is reached over the internet; with none, only from inside the network."
  type        = set(string)
  default     = []
}

variable "github_repository" {
  description = "Repository whose jobs may deploy: `owner/name`."
  type        = string
}

variable "github_oidc_provider_arn" {
  description = "ARN of the account's OpenID Connect provider of GitHub; without it, one is made."
  type        = string
  default     = null
}
