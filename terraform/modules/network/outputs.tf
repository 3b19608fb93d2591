output "vpc_id" {
  description = "Id of the network."
  value       = aws_vpc.this.id
}

output "private_subnet_ids" {
  description = "Ids of the private subnets, one per zone, in the order of `zones`."
  value       = [for zone in var.zones : aws_subnet.private[zone].id]
}

output "public_subnet_ids" {
  description = "Ids of the public subnets, one per zone, in the order of `zones`."
  value       = [for zone in var.zones : aws_subnet.public[zone].id]
}

output "data_subnet_ids" {
  description = "Ids of the data subnets, one per zone, in the order of `zones`."
  value       = [for zone in var.zones : aws_subnet.data[zone].id]
}

output "data_subnet_cidrs" {
  description = "Ranges of the data subnets, one per zone, in the order of `zones`: all that a network policy has to name."
  value       = [for zone in var.zones : aws_subnet.data[zone].cidr_block]
}

output "nat_public_ips" {
  description = "Addresses that the apps come from, for the allow lists of a mail server, Twilio or Atlas."
  value       = [for address in aws_eip.nat : address.public_ip]
}
