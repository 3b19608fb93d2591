variable "name" {
  description = "Name of the broker."
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
  description = "Ids of three private subnets in three zones, one per node of the broker."
  type        = list(string)

  validation {
    condition     = length(distinct(var.subnet_ids)) == 3
    error_message = "subnet_ids: three different subnets; a quorum queue outlives the loss of one zone of three."
  }
}

variable "client_security_group_id" {
  description = "Security group of the cluster, the only one that reaches the broker."
  type        = string
}

variable "engine_version" {
  description = "Version of RabbitMQ: major and minor, the patch is AWS's."
  type        = string
  default     = "4.2"

  validation {
    condition     = contains(["3.13", "4.2"], var.engine_version)
    error_message = "engine_version: 3.13 or 4.2; Amazon MQ has no quorum queues below."
  }
}

variable "instance_type" {
  description = "Size of each of the three nodes."
  type        = string

  validation {
    condition     = can(regex("^mq\\.m7g\\.(medium|large|[248]?xlarge|12xlarge|16xlarge)$", var.instance_type))
    error_message = "instance_type: one of mq.m7g.medium to mq.m7g.16xlarge, the only ones with RabbitMQ 4; medium is for tests."
  }
}

variable "maintenance_window" {
  description = "When AWS may restart the nodes, one after the other: day of the week, and time in UTC."
  type = object({
    day_of_week = string
    time_of_day = string
  })
  default = { day_of_week = "TUESDAY", time_of_day = "03:00" }

  validation {
    condition = (
      contains(["MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY", "SUNDAY"], var.maintenance_window.day_of_week) &&
      can(regex("^([01][0-9]|2[0-3]):[0-5][0-9]$", var.maintenance_window.time_of_day))
    )
    error_message = "maintenance_window: a day such as TUESDAY and a time such as 03:00."
  }
}

variable "alarm_emails" {
  description = "Mailboxes that the alarms go to; each confirms once."
  type        = set(string)

  validation {
    condition     = length(var.alarm_emails) > 0 && alltrue([for email in var.alarm_emails : can(regex("^[^@\\s]+@[^@\\s]+$", email))])
    error_message = "alarm_emails: one mailbox at least, such as operations@shop.example; an alarm that nobody gets is none."
  }
}

variable "ready_messages_at_most" {
  description = "How many messages may wait in all queues together for ten minutes, those that wait for a retry included."
  type        = number
  default     = 5000

  validation {
    condition     = var.ready_messages_at_most >= 1
    error_message = "ready_messages_at_most: 1 or more."
  }
}

variable "consumers_at_least" {
  description = "How many consumers there are when all apps run: one for each queue of each of two processes."
  type        = number
  default     = 70

  validation {
    condition     = var.consumers_at_least >= 1
    error_message = "consumers_at_least: 1 or more; without any, nothing is handled."
  }
}
