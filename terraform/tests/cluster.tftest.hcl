mock_provider "aws" {
  source          = "./tests/mocks"
  override_during = plan
}

variables {
  name               = "orderflow-test"
  kubernetes_version = "1.35"
  subnet_ids         = ["subnet-1", "subnet-2", "subnet-3"]
  admin_role_arns    = { platform = "arn:aws:iam::111122223333:role/platform" }
  node_groups        = { apps = { instance_types = ["m7i.large"], min_size = 2, max_size = 4 } }
}

run "closed_encrypted_and_logged" {
  command = plan

  module {
    source = "./modules/cluster"
  }

  assert {
    condition     = aws_eks_cluster.this.vpc_config[0].endpoint_private_access && !aws_eks_cluster.this.vpc_config[0].endpoint_public_access
    error_message = "The API server is reached from inside the network only."
  }

  assert {
    condition = (
      aws_eks_cluster.this.encryption_config[0].resources == toset(["secrets"]) &&
      aws_eks_cluster.this.encryption_config[0].provider[0].key_arn == module.key.arn
    )
    error_message = "Secrets are encrypted with a key of ours."
  }

  assert {
    condition     = aws_eks_cluster.this.enabled_cluster_log_types == toset(["api", "audit", "authenticator", "controllerManager", "scheduler"])
    error_message = "Every log of the control plane is kept."
  }

  assert {
    condition     = aws_cloudwatch_log_group.control_plane.name == "/aws/eks/orderflow-test/cluster" && aws_cloudwatch_log_group.control_plane.kms_key_id == module.key.arn
    error_message = "EKS writes into the log group that is encrypted with a key of ours."
  }

  assert {
    condition = (
      aws_eks_cluster.this.access_config[0].authentication_mode == "API" &&
      !aws_eks_cluster.this.access_config[0].bootstrap_cluster_creator_admin_permissions &&
      keys(aws_eks_access_entry.admin) == ["platform"]
    )
    error_message = "Only the named roles administer the cluster, not whoever made it."
  }

  assert {
    condition = alltrue([for template in aws_launch_template.node :
      template.metadata_options[0].http_tokens == "required" && template.metadata_options[0].http_put_response_hop_limit == 1
    ])
    error_message = "No pod takes the role of its node from the metadata service."
  }

  assert {
    condition = alltrue([for template in aws_launch_template.node :
      tobool(template.block_device_mappings[0].ebs[0].encrypted) && template.block_device_mappings[0].ebs[0].kms_key_id == module.key.arn
    ])
    error_message = "The nodes' volumes are encrypted with a key of ours."
  }

  assert {
    condition     = toset(keys(aws_iam_role_policy_attachment.node)) == toset(["AmazonEKSWorkerNodePolicy", "AmazonEC2ContainerRegistryPullOnly"])
    error_message = "Nodes may join and pull images, and nothing else."
  }

  assert {
    condition     = jsondecode(aws_eks_addon.vpc_cni.configuration_values).enableNetworkPolicy == "true"
    error_message = "Network policies are enforced."
  }

  assert {
    condition     = module.vpc_cni_role.subject == "system:serviceaccount:kube-system:aws-node" && module.ebs_csi_role.subject == "system:serviceaccount:kube-system:ebs-csi-controller-sa"
    error_message = "Add-ons have roles of their own."
  }
}

run "named_ranges_reach_the_api_server" {
  command = plan

  module {
    source = "./modules/cluster"
  }

  variables {
    public_access_cidrs = ["203.0.113.0/24"]
  }

  assert {
    condition     = aws_eks_cluster.this.vpc_config[0].endpoint_public_access && aws_eks_cluster.this.vpc_config[0].public_access_cidrs == toset(["203.0.113.0/24"])
    error_message = "The API server is open to the named ranges, and to them only."
  }
}

run "bad_input_is_refused" {
  command = plan

  module {
    source = "./modules/cluster"
  }

  variables {
    name                = "x"
    kubernetes_version  = "latest"
    subnet_ids          = ["subnet-1", "subnet-1"]
    admin_role_arns     = { root = "arn:aws:iam::111122223333:root" }
    public_access_cidrs = ["0.0.0.0/0"]
    node_groups         = { apps = { instance_types = ["m7i.large"], min_size = 1, max_size = 4 } }
    log_retention_days  = 30
  }

  expect_failures = [
    var.name, var.kubernetes_version, var.subnet_ids, var.admin_role_arns, var.public_access_cidrs, var.node_groups,
    var.log_retention_days,
  ]
}
