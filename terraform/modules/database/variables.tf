variable "name" {
  description = "Name of the database cluster."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{2,39}$", var.name))
    error_message = "name: 3 to 40 lower-case letters, digits and hyphens, a letter first."
  }
}

variable "vpc_id" {
  description = "Id of the network."
  type        = string
}

variable "subnet_ids" {
  description = "Ids of private subnets in three zones."
  type        = list(string)

  validation {
    condition     = length(distinct(var.subnet_ids)) == 3
    error_message = "subnet_ids: three different subnets, one per zone."
  }
}

variable "client_security_group_id" {
  description = "Security group of the cluster, the only one that reaches the database."
  type        = string
}

variable "engine_version" {
  description = "Version of DocumentDB."
  type        = string
  default     = "5.0.0"

  validation {
    condition     = contains(["5.0.0", "8.0.0"], var.engine_version)
    error_message = "engine_version: 5.0.0 or 8.0.0; older ones have no partial indexes."
  }
}

variable "instance_class" {
  description = "Size of each instance."
  type        = string

  validation {
    condition     = can(regex("^db\\.(t4g\\.medium|r[5-8][a-z]*\\.[0-9]*x?large)$", var.instance_class))
    error_message = "instance_class: db.t4g.medium or one of the db.r classes, such as db.r6g.large."
  }
}

variable "instance_count" {
  description = "Instances, spread over the zones: one writes, the others take over."
  type        = number

  validation {
    condition     = var.instance_count >= 2 && var.instance_count <= 16 && floor(var.instance_count) == var.instance_count
    error_message = "instance_count: 2 to 16; with one there is nobody to take over."
  }
}

variable "backup_retention_days" {
  description = "How far back the database can be restored to any second, in days."
  type        = number
  default     = 35

  validation {
    condition     = var.backup_retention_days >= 7 && var.backup_retention_days <= 35
    error_message = "backup_retention_days: 7 to 35."
  }
}

variable "deletion_protection" {
  description = "Whether the database refuses to be deleted, and leaves a last snapshot if it is deleted all the same."
  type        = bool
  default     = true
}

variable "log_retention_days" {
  description = "How long audit and profiler logs are kept, in days."
  type        = number
  default     = 365

  validation {
    condition     = contains([365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.log_retention_days)
    error_message = "log_retention_days: a year or more, in one of the steps of CloudWatch: 365, 400, 545, 731, 1096, …"
  }
}
