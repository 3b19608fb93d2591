mock_provider "aws" {
  source          = "./tests/mocks"
  override_during = plan
}

variables {
  environment       = "staging"
  cluster_name      = "orderflow-staging"
  cluster_arn       = "arn:aws:eks:eu-central-1:111122223333:cluster/orderflow-staging"
  oidc_provider_arn = "arn:aws:iam::111122223333:oidc-provider/oidc.eks.eu-central-1.amazonaws.com/id/MOCK"
  oidc_issuer_url   = "https://oidc.eks.eu-central-1.amazonaws.com/id/MOCK"
  bucket_arn        = "arn:aws:s3:::documents"
  bucket_key_arn    = "arn:aws:kms:eu-central-1:111122223333:key/bucket"
  github_repository = "orderflow/orderflow"
}

run "least_rights" {
  command = plan

  module {
    source = "./modules/access"
  }

  assert {
    condition = output.app_subjects == {
      documents = "system:serviceaccount:orderflow:documents"
      ingress   = "system:serviceaccount:orderflow:ingress"
    }
    error_message = "Two apps have a role in AWS, each by its own service account."
  }

  assert {
    condition     = local.apps.documents[0].Action == "s3:PutObject" && local.apps.documents[0].Resource == "arn:aws:s3:::documents/invoices/*"
    error_message = "documents writes invoices, and neither reads nor deletes them."
  }

  assert {
    condition     = local.apps.ingress[0].Action == "s3:GetObject" && local.apps.ingress[0].Resource == "arn:aws:s3:::documents/invoices/*"
    error_message = "ingress reads invoices, and does not write them."
  }

  assert {
    condition = alltrue([for app in values(local.apps) :
      app[1].Resource == var.bucket_key_arn && app[1].Condition.StringEquals["kms:ViaService"] == "s3.eu-central-1.amazonaws.com"
    ])
    error_message = "The bucket's key is used through S3 only."
  }

  assert {
    condition = jsondecode(aws_iam_role.deploy.assume_role_policy).Statement[0].Condition == {
      StringEquals = {
        "token.actions.githubusercontent.com:aud" = "sts.amazonaws.com"
        "token.actions.githubusercontent.com:sub" = "repo:orderflow/orderflow:environment:staging"
      }
    }
    error_message = "Only jobs of this repository in this GitHub environment deploy."
  }

  assert {
    condition     = jsondecode(aws_iam_role_policy.deploy.policy).Statement[*].Resource == [var.cluster_arn]
    error_message = "Deploying touches one cluster and nothing else of AWS."
  }

  assert {
    condition     = aws_iam_role.deploy.max_session_duration == 7200
    error_message = "The deploy role lasts for a rollout of every app, or for its roll back."
  }

  assert {
    condition     = one(aws_eks_access_policy_association.deploy.access_scope[*]).type == "namespace" && one(aws_eks_access_policy_association.deploy.access_scope[*]).namespaces == toset(["orderflow"])
    error_message = "Deploying reaches one namespace."
  }

  assert {
    condition     = aws_secretsmanager_secret.this["stock"].name == "orderflow/staging/stock" && alltrue([for secret in aws_secretsmanager_secret.this : secret.kms_key_id == module.key.arn])
    error_message = "Each reader has a secret under its name, encrypted with a key of ours."
  }
}

run "one_provider_of_github_per_account" {
  command = plan

  module {
    source = "./modules/access"
  }

  variables {
    github_oidc_provider_arn = "arn:aws:iam::111122223333:oidc-provider/token.actions.githubusercontent.com"
  }

  assert {
    condition     = length(aws_iam_openid_connect_provider.github) == 0 && jsondecode(aws_iam_role.deploy.assume_role_policy).Statement[0].Principal.Federated == var.github_oidc_provider_arn
    error_message = "A provider that is there already is used, and no second one made."
  }
}

run "bad_input_is_refused" {
  command = plan

  module {
    source = "./modules/access"
  }

  variables {
    environment              = "Staging"
    secret_readers           = ["../production"]
    github_repository        = "orderflow/*"
    github_oidc_provider_arn = "arn:aws:iam::111122223333:oidc-provider/example.com"
  }

  expect_failures = [var.environment, var.secret_readers, var.github_repository, var.github_oidc_provider_arn]
}
