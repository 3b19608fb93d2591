mock_provider "aws" {
  source          = "./tests/mocks"
  override_during = plan
}

variables {
  environment         = "staging"
  deletion_protection = false

  network = {
    cidr_block          = "10.20.0.0/16"
    zones               = ["eu-central-1a", "eu-central-1b", "eu-central-1c"]
    nat_per_zone        = false
    interface_endpoints = []
  }

  cluster = {
    kubernetes_version  = "1.35"
    admin_role_arns     = { platform = "arn:aws:iam::111122223333:role/platform" }
    public_access_cidrs = []
    node_groups         = { apps = { instance_types = ["m7i.large"], min_size = 2, max_size = 4 } }
  }

  queue      = { instance_type = "mq.m7g.medium", alarm_emails = ["operations@shop.example"] }
  documentdb = { instance_class = "db.t4g.medium", instance_count = 2, backup_retention_days = 7 }
  github     = { repository = "orderflow/orderflow" }
}

run "with_documentdb" {
  command = plan

  module {
    source = "./modules/system"
  }

  assert {
    condition     = output.documentdb_url_options == "tls=true&replicaSet=rs0&retryWrites=false"
    error_message = "Who asks for DocumentDB is told how its URLs must end."
  }
}

run "production_cannot_go_without_protection" {
  command = plan

  module {
    source = "./modules/system"
  }

  variables {
    environment = "production"
  }

  expect_failures = [var.deletion_protection]
}

run "unknown_environment_is_refused" {
  command = plan

  module {
    source = "./modules/system"
  }

  variables {
    environment = "demo"
  }

  expect_failures = [var.environment]
}
