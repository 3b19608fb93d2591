# What AWS answers, as far as something else is made of it: ARNs must look like such.

mock_data "aws_caller_identity" {
  defaults = { account_id = "111122223333" }
}

mock_data "aws_partition" {
  defaults = { partition = "aws" }
}

mock_data "aws_region" {
  defaults = { name = "eu-central-1" }
}

mock_data "aws_secretsmanager_random_password" {
  defaults = { random_password = "only-a-mock-of-40-characters-0123456789a" }
}

mock_resource "aws_kms_key" {
  defaults = {
    arn    = "arn:aws:kms:eu-central-1:111122223333:key/00000000-0000-0000-0000-000000000000"
    key_id = "00000000-0000-0000-0000-000000000000"
  }
}

mock_resource "aws_iam_role" {
  defaults = { arn = "arn:aws:iam::111122223333:role/mock" }
}

mock_resource "aws_iam_openid_connect_provider" {
  defaults = { arn = "arn:aws:iam::111122223333:oidc-provider/mock" }
}

mock_resource "aws_cloudwatch_log_group" {
  defaults = { arn = "arn:aws:logs:eu-central-1:111122223333:log-group:mock" }
}

mock_resource "aws_eks_cluster" {
  defaults = {
    arn        = "arn:aws:eks:eu-central-1:111122223333:cluster/mock"
    endpoint   = "https://mock.eks.amazonaws.com"
    identity   = [{ oidc = [{ issuer = "https://oidc.eks.eu-central-1.amazonaws.com/id/MOCK" }] }]
    vpc_config = { cluster_security_group_id = "sg-00000000000000001" }
  }
}

mock_resource "aws_launch_template" {
  defaults = { id = "lt-00000000000000001", latest_version = 1 }
}

mock_resource "aws_s3_bucket" {
  defaults = { arn = "arn:aws:s3:::orderflow-mock-documents" }
}

mock_resource "aws_ecr_repository" {
  defaults = {
    arn            = "arn:aws:ecr:eu-central-1:111122223333:repository/orderflow"
    repository_url = "111122223333.dkr.ecr.eu-central-1.amazonaws.com/orderflow"
  }
}

mock_resource "aws_secretsmanager_secret" {
  defaults = { arn = "arn:aws:secretsmanager:eu-central-1:111122223333:secret:mock" }
}

mock_resource "aws_mq_broker" {
  defaults = {
    arn = "arn:aws:mq:eu-central-1:111122223333:broker:mock:b-00000000"
    instances = [{
      console_url = "https://b-00000000.mq.eu-central-1.amazonaws.com"
      endpoints   = ["amqps://b-00000000.mq.eu-central-1.amazonaws.com:5671"]
      ip_address  = "10.20.0.10"
    }]
  }
}

mock_resource "aws_sns_topic" {
  defaults = { arn = "arn:aws:sns:eu-central-1:111122223333:mock" }
}

mock_resource "aws_docdb_cluster" {
  defaults = {
    arn      = "arn:aws:rds:eu-central-1:111122223333:cluster:mock"
    endpoint = "mock.cluster.docdb.amazonaws.com"
    master_user_secret = [{
      kms_key_id    = "arn:aws:kms:eu-central-1:111122223333:key/aws"
      secret_arn    = "arn:aws:secretsmanager:eu-central-1:111122223333:secret:rds-mock"
      secret_status = "active"
    }]
  }
}
