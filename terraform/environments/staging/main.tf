# The same system as in production, smaller: what differs is on this page.
module "system" {
  source = "../../modules/system"

  environment         = "staging"
  deletion_protection = false

  network = {
    cidr_block          = "10.20.0.0/16"
    zones               = [for letter in ["a", "b", "c"] : "${var.region}${letter}"]
    nat_per_zone        = false
    interface_endpoints = []
  }

  cluster = {
    kubernetes_version  = "1.35"
    admin_role_arns     = var.admin_role_arns
    public_access_cidrs = var.public_access_cidrs

    node_groups = {
      apps = { instance_types = ["m7i.large"], min_size = 2, max_size = 4 }
    }
  }

  queue = {
    instance_type = "mq.m7g.medium"
    alarm_emails  = var.alarm_emails
  }

  github = {
    repository        = var.github_repository
    oidc_provider_arn = var.github_oidc_provider_arn
  }
}
