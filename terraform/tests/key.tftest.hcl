mock_provider "aws" {
  source          = "./tests/mocks"
  override_during = plan
}

run "key_of_logs" {
  command = plan

  module {
    source = "./modules/key"
  }

  variables {
    name        = "logs"
    description = "Logs."
    used_by     = ["logs"]
  }

  assert {
    condition     = aws_kms_key.this.enable_key_rotation && aws_kms_key.this.deletion_window_in_days == 30
    error_message = "A key is renewed every year, and its deletion can be taken back for 30 days."
  }

  assert {
    condition     = jsondecode(aws_kms_key.this.policy).Statement[*].Sid == ["AccountDecidesByItsPolicies", "LogGroups"]
    error_message = "Only the account and CloudWatch Logs may use a key of logs."
  }

  assert {
    condition = (
      jsondecode(aws_kms_key.this.policy).Statement[1].Principal.Service == "logs.eu-central-1.amazonaws.com" &&
      jsondecode(aws_kms_key.this.policy).Statement[1].Condition.ArnLike["kms:EncryptionContext:aws:logs:arn"] == "arn:aws:logs:eu-central-1:111122223333:log-group:*"
    )
    error_message = "CloudWatch Logs uses the key for this account's log groups in this region only."
  }
}

run "key_of_alarms" {
  command = plan

  module {
    source = "./modules/key"
  }

  variables {
    name        = "alarms"
    description = "Alarms."
    used_by     = ["alarms"]
  }

  assert {
    condition = (
      jsondecode(aws_kms_key.this.policy).Statement[1].Principal.Service == "cloudwatch.amazonaws.com" &&
      jsondecode(aws_kms_key.this.policy).Statement[1].Condition.StringEquals["aws:SourceAccount"] == "111122223333"
    )
    error_message = "CloudWatch uses the key for this account's alarms only."
  }
}

run "bad_input_is_refused" {
  command = plan

  module {
    source = "./modules/key"
  }

  variables {
    name        = "Logs"
    description = "Logs."
    used_by     = ["everybody"]
  }

  expect_failures = [var.name, var.used_by]
}
