# Nothing is made here: `terraform test` needs a configuration to start from, and one initialisation serves all tests.
terraform {
  required_version = "~> 1.11"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "5.100.0"
    }
  }
}
