mock_provider "aws" {
  source          = "./tests/mocks"
  override_during = plan
}

variables {
  account_id        = "111122223333"
  region            = "eu-central-1"
  owner             = "shop-platform"
  alarm_emails      = ["operations@shop.example"]
  admin_role_arns   = { platform = "arn:aws:iam::111122223333:role/platform" }
  github_repository = "orderflow/orderflow"
}

run "production" {
  command = plan

  module {
    source = "./environments/production"
  }

  assert {
    condition     = output.cluster_name == "orderflow-production" && output.vpc_cidr == "10.30.0.0/16"
    error_message = "Name and range are production's."
  }

  assert {
    condition     = output.data_subnet_cidrs == ["10.30.240.0/22", "10.30.244.0/22", "10.30.248.0/22"]
    error_message = "The network policies of the overlay production name these ranges."
  }

  assert {
    condition     = output.bucket_name == "orderflow-production-documents-111122223333"
    error_message = "The bucket carries environment and account."
  }

  assert {
    condition     = output.documentdb_endpoint == null
    error_message = "There is no DocumentDB unless somebody asks for it."
  }

  assert {
    condition     = length(output.nat_public_ips) == 3
    error_message = "In production each zone has a way out of its own."
  }
}

run "staging" {
  command = plan

  module {
    source = "./environments/staging"
  }

  assert {
    condition     = output.cluster_name == "orderflow-staging" && output.vpc_cidr == "10.20.0.0/16"
    error_message = "Name and range are staging's."
  }

  assert {
    condition     = output.data_subnet_cidrs == ["10.20.240.0/22", "10.20.244.0/22", "10.20.248.0/22"]
    error_message = "The network policies of the overlay staging name these ranges."
  }

  assert {
    condition     = length(output.nat_public_ips) == 1
    error_message = "Staging has one NAT gateway for all zones."
  }
}

run "bad_input_is_refused" {
  command = plan

  module {
    source = "./environments/production"
  }

  variables {
    account_id = "mine"
    region     = "Frankfurt"
  }

  expect_failures = [var.account_id, var.region]
}
