variable "name" {
  description = "Alias of the key, without `alias/`."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,62}$", var.name))
    error_message = "name: lower-case letters, digits and hyphens, 63 at most, a letter first."
  }
}

variable "description" {
  description = "What is encrypted with the key."
  type        = string
}

variable "used_by" {
  description = "AWS services that use the key by themselves: `logs` for log groups, `alarms` for topics of CloudWatch's alarms, `autoscaling` for the volumes of nodes."
  type        = set(string)
  default     = []

  validation {
    condition     = length(setsubtract(var.used_by, ["logs", "alarms", "autoscaling"])) == 0
    error_message = "used_by: only logs, alarms and autoscaling are known."
  }
}
