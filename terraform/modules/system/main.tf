locals {
  name = "orderflow-${var.environment}"
}

module "network" {
  source = "../network"

  name                = local.name
  cidr_block          = var.network.cidr_block
  zones               = var.network.zones
  nat_per_zone        = var.network.nat_per_zone
  interface_endpoints = var.network.interface_endpoints
}

module "cluster" {
  source = "../cluster"

  name                = local.name
  kubernetes_version  = var.cluster.kubernetes_version
  subnet_ids          = module.network.private_subnet_ids
  public_access_cidrs = var.cluster.public_access_cidrs
  admin_role_arns     = var.cluster.admin_role_arns
  node_groups         = var.cluster.node_groups
}

module "queue" {
  source = "../queue"

  name                     = local.name
  vpc_id                   = module.network.vpc_id
  subnet_ids               = module.network.data_subnet_ids
  client_security_group_id = module.cluster.security_group_id
  instance_type            = var.queue.instance_type
  alarm_emails             = var.queue.alarm_emails
}

module "database" {
  source = "../database"
  count  = var.documentdb == null ? 0 : 1

  name                     = local.name
  vpc_id                   = module.network.vpc_id
  subnet_ids               = module.network.data_subnet_ids
  client_security_group_id = module.cluster.security_group_id
  instance_class           = var.documentdb.instance_class
  instance_count           = var.documentdb.instance_count
  backup_retention_days    = var.documentdb.backup_retention_days
  deletion_protection      = var.deletion_protection
}

module "storage" {
  source = "../storage"

  name                = local.name
  deletion_protection = var.deletion_protection
}

module "access" {
  source = "../access"

  environment              = var.environment
  cluster_name             = module.cluster.name
  cluster_arn              = module.cluster.arn
  oidc_provider_arn        = module.cluster.oidc_provider_arn
  oidc_issuer_url          = module.cluster.oidc_issuer_url
  bucket_arn               = module.storage.bucket_arn
  bucket_key_arn           = module.storage.key_arn
  github_repository        = var.github.repository
  github_oidc_provider_arn = var.github.oidc_provider_arn
}
