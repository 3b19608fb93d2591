mock_provider "aws" {
  source          = "./tests/mocks"
  override_during = plan
}

variables {
  name              = "orderflow-staging-documents"
  oidc_provider_arn = "arn:aws:iam::111122223333:oidc-provider/oidc.eks.eu-central-1.amazonaws.com/id/MOCK"
  oidc_issuer_url   = "https://oidc.eks.eu-central-1.amazonaws.com/id/MOCK"
  namespace         = "orderflow"
  service_account   = "documents"
}

run "exactly_one_service_account_takes_it" {
  command = plan

  module {
    source = "./modules/pod-role"
  }

  assert {
    condition = jsondecode(aws_iam_role.this.assume_role_policy).Statement == [{
      Effect    = "Allow"
      Principal = { Federated = "arn:aws:iam::111122223333:oidc-provider/oidc.eks.eu-central-1.amazonaws.com/id/MOCK" }
      Action    = "sts:AssumeRoleWithWebIdentity"
      Condition = {
        StringEquals = {
          "oidc.eks.eu-central-1.amazonaws.com/id/MOCK:aud" = "sts.amazonaws.com"
          "oidc.eks.eu-central-1.amazonaws.com/id/MOCK:sub" = "system:serviceaccount:orderflow:documents"
        }
      }
    }]
    error_message = "The role is for the service account orderflow/documents and nobody else."
  }

  assert {
    condition     = length(aws_iam_role_policy.this) == 0
    error_message = "A role without statements has no policy."
  }
}

run "wildcards_are_refused" {
  command = plan

  module {
    source = "./modules/pod-role"
  }

  variables {
    name            = "*"
    oidc_issuer_url = "http://oidc.eks.eu-central-1.amazonaws.com/id/MOCK"
    namespace       = "*"
    service_account = "docu*"
  }

  expect_failures = [var.name, var.oidc_issuer_url, var.namespace, var.service_account]
}
