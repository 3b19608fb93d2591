variable "name" {
  description = "Name of the cluster, and the beginning of the names of its roles."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{2,39}$", var.name))
    error_message = "name: 3 to 40 lower-case letters, digits and hyphens, a letter first."
  }
}

variable "kubernetes_version" {
  description = "Minor version of Kubernetes; it can be raised by one at a time, and never lowered."
  type        = string

  validation {
    condition     = can(regex("^1\\.[0-9]{2}$", var.kubernetes_version))
    error_message = "kubernetes_version: a minor version such as 1.35."
  }
}

variable "subnet_ids" {
  description = "Ids of private subnets in at least two zones."
  type        = list(string)

  validation {
    condition     = length(distinct(var.subnet_ids)) >= 2
    error_message = "subnet_ids: EKS needs subnets in at least two zones."
  }
}

variable "public_access_cidrs" {
  description = "Ranges from which the API server is reached over the internet; with none, only from inside the network."
  type        = set(string)
  default     = []

  validation {
    condition     = alltrue([for cidr in var.public_access_cidrs : can(cidrnetmask(cidr)) && try(tonumber(split("/", cidr)[1]) >= 8, false)])
    error_message = "public_access_cidrs: IPv4 ranges of /8 or smaller; the whole internet is none."
  }
}

variable "admin_role_arns" {
  description = "Roles of people who administer the cluster, by a name of your choice."
  type        = map(string)

  validation {
    condition     = length(var.admin_role_arns) > 0 && alltrue([for arn in values(var.admin_role_arns) : can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:role/", arn))])
    error_message = "admin_role_arns: the ARN of at least one IAM role; without any nobody gets into the cluster."
  }
}

variable "node_groups" {
  description = "Groups of nodes by name. All apps together ask for 2 to 4 vCPU in k8s/base before they are scaled."
  type = map(object({
    instance_types = list(string)
    min_size       = number
    max_size       = number
    disk_gib       = optional(number, 50)
    capacity_type  = optional(string, "ON_DEMAND")
    ami_type       = optional(string, "AL2023_x86_64_STANDARD")
  }))

  validation {
    condition     = length(var.node_groups) > 0
    error_message = "node_groups: at least one."
  }

  validation {
    condition     = alltrue([for group in values(var.node_groups) : group.min_size >= 2 && group.max_size >= group.min_size])
    error_message = "node_groups: min_size is 2 or more, so that a node can be replaced without a pause, and max_size is no less."
  }

  validation {
    condition     = alltrue([for group in values(var.node_groups) : contains(["ON_DEMAND", "SPOT"], group.capacity_type)])
    error_message = "node_groups: capacity_type is ON_DEMAND or SPOT."
  }

  validation {
    condition     = alltrue([for group in values(var.node_groups) : startswith(group.ami_type, "AL2023_")])
    error_message = "node_groups: ami_type is one of Amazon Linux 2023, whose root volume is the one that is encrypted here."
  }
}

variable "log_retention_days" {
  description = "How long control-plane logs are kept, in days."
  type        = number
  default     = 365

  validation {
    condition     = contains([365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.log_retention_days)
    error_message = "log_retention_days: a year or more, in one of the steps of CloudWatch: 365, 400, 545, 731, 1096, …"
  }
}
