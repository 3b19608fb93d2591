mock_provider "aws" {
  source          = "./tests/mocks"
  override_during = plan
}

variables {
  name = "orderflow-test"
}

run "private_versioned_and_encrypted" {
  command = plan

  module {
    source = "./modules/storage"
  }

  assert {
    condition     = aws_s3_bucket.documents.bucket == "orderflow-test-documents-111122223333" && !aws_s3_bucket.documents.force_destroy
    error_message = "The bucket is the account's own, and is not deleted with documents in it."
  }

  assert {
    condition = (
      aws_s3_bucket_public_access_block.documents.block_public_acls &&
      aws_s3_bucket_public_access_block.documents.block_public_policy &&
      aws_s3_bucket_public_access_block.documents.ignore_public_acls &&
      aws_s3_bucket_public_access_block.documents.restrict_public_buckets
    )
    error_message = "Nothing in the bucket can be made public."
  }

  assert {
    condition     = one(aws_s3_bucket_server_side_encryption_configuration.documents.rule).apply_server_side_encryption_by_default[0].kms_master_key_id == module.key.arn
    error_message = "Documents are encrypted with a key of ours."
  }

  assert {
    condition     = aws_s3_bucket_versioning.documents.versioning_configuration[0].status == "Enabled"
    error_message = "An overwritten document can be fetched back."
  }

  assert {
    condition = jsondecode(aws_s3_bucket_policy.documents.policy).Statement == [{
      Sid       = "TlsOnly"
      Effect    = "Deny"
      Principal = "*"
      Action    = "s3:*"
      Resource  = ["arn:aws:s3:::orderflow-mock-documents", "arn:aws:s3:::orderflow-mock-documents/*"]
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    }]
    error_message = "Nobody reads or writes without TLS."
  }

  assert {
    condition = alltrue([for rule in aws_s3_bucket_lifecycle_configuration.documents.rule :
      length(rule.expiration) == 0
    ])
    error_message = "No invoice expires."
  }

  assert {
    condition     = aws_ecr_repository.this.image_tag_mutability == "IMMUTABLE" && aws_ecr_repository.this.image_scanning_configuration[0].scan_on_push && !aws_ecr_repository.this.force_delete
    error_message = "A tag names the same image for ever, and each image is scanned."
  }

  assert {
    condition     = aws_ecr_repository.this.encryption_configuration[0].kms_key == module.key.arn
    error_message = "Images are encrypted with a key of ours."
  }

  assert {
    condition     = output.documents_url == "s3://orderflow-test-documents-111122223333"
    error_message = "The apps are told of the bucket by its URL."
  }
}

run "bad_input_is_refused" {
  command = plan

  module {
    source = "./modules/storage"
  }

  variables {
    name                    = "Orderflow"
    repository_name         = "Orderflow/"
    noncurrent_version_days = 1
    images_kept             = 1
  }

  expect_failures = [var.name, var.repository_name, var.noncurrent_version_days, var.images_kept]
}
