variable "name" {
  description = "Beginning of the bucket's name; the account's number is its end."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{2,39}$", var.name))
    error_message = "name: 3 to 40 lower-case letters, digits and hyphens, a letter first."
  }
}

variable "repository_name" {
  description = "Name of the repository of images in ECR."
  type        = string
  default     = "orderflow"

  validation {
    condition     = can(regex("^[a-z0-9]+([._/-][a-z0-9]+)*$", var.repository_name))
    error_message = "repository_name: lower-case letters and digits, with . _ / or - between them."
  }
}

variable "noncurrent_version_days" {
  description = "How long an overwritten or deleted document can be fetched back, in days."
  type        = number
  default     = 90

  validation {
    condition     = var.noncurrent_version_days >= 30
    error_message = "noncurrent_version_days: 30 or more, so that a mistake is noticed in time."
  }
}

variable "images_kept" {
  description = "How many images the repository keeps."
  type        = number
  default     = 100

  validation {
    condition     = var.images_kept >= 10
    error_message = "images_kept: 10 or more; an image of two platforms with its signature and SBOM counts as five."
  }
}

variable "deletion_protection" {
  description = "Whether bucket and repository refuse to be deleted while something is in them."
  type        = bool
  default     = true
}
