module "vpc_cni_role" {
  source = "../pod-role"

  name              = "${var.name}-vpc-cni"
  oidc_provider_arn = aws_iam_openid_connect_provider.this.arn
  oidc_issuer_url   = aws_eks_cluster.this.identity[0].oidc[0].issuer
  namespace         = "kube-system"
  service_account   = "aws-node"
  policy_arns       = { network_interfaces = "${local.policies}/AmazonEKS_CNI_Policy" }
}

module "ebs_csi_role" {
  source = "../pod-role"

  name              = "${var.name}-ebs-csi"
  oidc_provider_arn = aws_iam_openid_connect_provider.this.arn
  oidc_issuer_url   = aws_eks_cluster.this.identity[0].oidc[0].issuer
  namespace         = "kube-system"
  service_account   = "ebs-csi-controller-sa"
  policy_arns       = { volumes = "${local.policies}/service-role/AmazonEBSCSIDriverPolicy" }

  statements = [
    {
      Effect   = "Allow"
      Action   = ["kms:Decrypt", "kms:GenerateDataKeyWithoutPlaintext", "kms:DescribeKey"]
      Resource = module.key.arn
    },
    {
      Effect    = "Allow"
      Action    = "kms:CreateGrant"
      Resource  = module.key.arn
      Condition = { Bool = { "kms:GrantIsForAWSResource" = "true" } }
    },
  ]
}

# Before the nodes, as kube-proxy: without both no node gets ready. Without `enableNetworkPolicy`, the network
# policies in k8s would be accepted and do nothing.
resource "aws_eks_addon" "vpc_cni" {
  cluster_name             = aws_eks_cluster.this.name
  addon_name               = "vpc-cni"
  service_account_role_arn = module.vpc_cni_role.arn
  configuration_values     = jsonencode({ enableNetworkPolicy = "true" })
}

resource "aws_eks_addon" "kube_proxy" {
  cluster_name = aws_eks_cluster.this.name
  addon_name   = "kube-proxy"
}

resource "aws_eks_addon" "ebs_csi" {
  cluster_name             = aws_eks_cluster.this.name
  addon_name               = "aws-ebs-csi-driver"
  service_account_role_arn = module.ebs_csi_role.arn

  depends_on = [aws_eks_node_group.this]
}

# metrics-server is what the ingress's HorizontalPodAutoscaler reads.
resource "aws_eks_addon" "plain" {
  for_each = toset(["coredns", "metrics-server"])

  cluster_name = aws_eks_cluster.this.name
  addon_name   = each.key

  depends_on = [aws_eks_node_group.this]
}
