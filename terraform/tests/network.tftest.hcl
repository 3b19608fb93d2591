mock_provider "aws" {
  source          = "./tests/mocks"
  override_during = plan
}

variables {
  name       = "orderflow-test"
  cidr_block = "10.20.0.0/16"
  zones      = ["eu-central-1a", "eu-central-1b", "eu-central-1c"]
}

run "three_zones_without_a_common_point_of_failure" {
  command = plan

  module {
    source = "./modules/network"
  }

  assert {
    condition = (
      [for zone in var.zones : aws_subnet.private[zone].cidr_block] == ["10.20.0.0/18", "10.20.64.0/18", "10.20.128.0/18"] &&
      [for zone in var.zones : aws_subnet.public[zone].cidr_block] == ["10.20.192.0/22", "10.20.196.0/22", "10.20.200.0/22"] &&
      output.data_subnet_cidrs == ["10.20.240.0/22", "10.20.244.0/22", "10.20.248.0/22"]
    )
    error_message = "Each zone has a private, a public and a data subnet, and no two overlap."
  }

  assert {
    condition = alltrue([for subnet in aws_subnet.data :
      length([for tag in keys(subnet.tags) : tag if startswith(tag, "kubernetes.io/")]) == 0
    ])
    error_message = "No load balancer of the cluster gets into a data subnet."
  }

  assert {
    condition     = toset(keys(aws_nat_gateway.this)) == toset(var.zones)
    error_message = "Each zone has a NAT gateway of its own."
  }

  assert {
    condition     = alltrue([for subnet in aws_subnet.public : !subnet.map_public_ip_on_launch])
    error_message = "Nothing gets a public address by being started."
  }

  assert {
    condition     = aws_flow_log.this.traffic_type == "ALL" && aws_cloudwatch_log_group.flow.retention_in_days == 365
    error_message = "All traffic is logged, for a year."
  }

  assert {
    condition     = aws_cloudwatch_log_group.flow.kms_key_id == module.log_key.arn
    error_message = "Flow logs are encrypted with a key of ours."
  }

  assert {
    condition     = aws_vpc_endpoint.s3.vpc_endpoint_type == "Gateway" && contains(keys(aws_vpc_endpoint.interface), "sts")
    error_message = "S3 and STS are reached inside the network."
  }

  assert {
    condition     = aws_vpc_security_group_ingress_rule.endpoints.cidr_ipv4 == var.cidr_block && aws_vpc_security_group_ingress_rule.endpoints.from_port == 443
    error_message = "Endpoints take HTTPS from inside the network only."
  }
}

run "bad_input_is_refused" {
  command = plan

  module {
    source = "./modules/network"
  }

  variables {
    name                = "Orderflow"
    cidr_block          = "8.8.0.0/16"
    zones               = ["eu-central-1a", "eu-central-1a", "eu-central-1b"]
    interface_endpoints = ["s3"]
    log_retention_days  = 7
  }

  expect_failures = [var.name, var.cidr_block, var.zones, var.interface_endpoints, var.log_retention_days]
}
