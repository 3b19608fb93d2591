module "system" {
  source = "../../modules/system"

  environment         = "production"
  deletion_protection = true

  network = {
    cidr_block          = "10.30.0.0/16"
    zones               = [for letter in ["a", "b", "c"] : "${var.region}${letter}"]
    nat_per_zone        = true
    interface_endpoints = ["secretsmanager", "sts"]
  }

  cluster = {
    kubernetes_version  = "1.35"
    admin_role_arns     = var.admin_role_arns
    public_access_cidrs = var.public_access_cidrs

    node_groups = {
      # One per zone at least: the apps are spread over zones, two or more of each.
      apps = { instance_types = ["m7i.xlarge"], min_size = 3, max_size = 9 }
    }
  }

  queue = {
    instance_type = "mq.m7g.large"
    alarm_emails  = var.alarm_emails
  }

  github = {
    repository        = var.github_repository
    oidc_provider_arn = var.github_oidc_provider_arn
  }
}
