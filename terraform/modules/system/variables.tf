variable "environment" {
  description = "Name of the environment; everything in it is called `orderflow-<environment>`."
  type        = string

  validation {
    condition     = contains(["staging", "production"], var.environment)
    error_message = "environment: staging or production, as the overlays in k8s."
  }
}

variable "network" {
  description = "Range and zones of the network; see the module network."
  type = object({
    cidr_block          = string
    zones               = list(string)
    nat_per_zone        = bool
    interface_endpoints = set(string)
  })
}

variable "cluster" {
  description = "Version, nodes and administrators of the cluster; see the module cluster."
  type = object({
    kubernetes_version  = string
    admin_role_arns     = map(string)
    public_access_cidrs = set(string)
    node_groups = map(object({
      instance_types = list(string)
      min_size       = number
      max_size       = number
      disk_gib       = optional(number, 50)
      capacity_type  = optional(string, "ON_DEMAND")
      ami_type       = optional(string, "AL2023_x86_64_STANDARD")
    }))
  })
}

variable "queue" {
  description = "Size of the broker, and who is told of its alarms; see the module queue."
  type = object({
    instance_type = string
    alarm_emails  = set(string)
  })
}

variable "documentdb" {
  description = "Sizes of a DocumentDB cluster; none without, since the apps need MongoDB itself: see the module database."
  type = object({
    instance_class        = string
    instance_count        = number
    backup_retention_days = number
  })
  default = null
}

variable "github" {
  description = "Repository that deploys, and the account's provider of GitHub if there is one; see the module access."
  type = object({
    repository        = string
    oidc_provider_arn = optional(string)
  })
}

variable "deletion_protection" {
  description = "Whether what holds data refuses to be deleted."
  type        = bool
  default     = true

  validation {
    condition     = var.deletion_protection || var.environment != "production"
    error_message = "deletion_protection: cannot be off in production."
  }
}
