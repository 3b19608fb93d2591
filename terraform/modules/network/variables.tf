variable "name" {
  description = "Name of the network, and the beginning of the names in it."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{2,39}$", var.name))
    error_message = "name: 3 to 40 lower-case letters, digits and hyphens, a letter first."
  }
}

variable "cidr_block" {
  description = "Private IPv4 range of the network, from /16 to /20."
  type        = string

  validation {
    condition = (
      can(regex("^(10\\.|172\\.(1[6-9]|2[0-9]|3[01])\\.|192\\.168\\.)", var.cidr_block)) &&
      can(cidrnetmask(var.cidr_block)) &&
      can(regex("/(16|17|18|19|20)$", var.cidr_block))
    )
    error_message = "cidr_block: a private IPv4 range from /16 to /20, such as 10.30.0.0/16."
  }
}

variable "zones" {
  description = "The three availability zones."
  type        = list(string)

  validation {
    condition     = length(var.zones) == 3 && length(distinct(var.zones)) == 3
    error_message = "zones: three different zones, since RabbitMQ and MongoDB need a majority when one is lost."
  }
}

variable "nat_per_zone" {
  description = "Whether each zone has a NAT gateway of its own; with one for all, the loss of its zone cuts the others off from outside."
  type        = bool
  default     = true
}

variable "interface_endpoints" {
  description = "AWS services that are reached inside the network instead of through NAT, by the end of their endpoint's name."
  type        = set(string)
  default     = ["secretsmanager", "sts"]

  validation {
    condition     = !contains(var.interface_endpoints, "s3")
    error_message = "interface_endpoints: s3 has a gateway endpoint already, which costs nothing."
  }
}

variable "log_retention_days" {
  description = "How long flow logs are kept, in days."
  type        = number
  default     = 365

  validation {
    condition     = contains([365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.log_retention_days)
    error_message = "log_retention_days: a year or more, in one of the steps of CloudWatch: 365, 400, 545, 731, 1096, …"
  }
}
