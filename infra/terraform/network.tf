# Public subnets and no NAT gateway: the machines open connections and accept none, and a NAT gateway would cost more
# than everything else together.

resource "aws_vpc" "this" {
  cidr_block           = "10.64.0.0/16"
  enable_dns_hostnames = true
  tags                 = { Name = var.name }
}

# Anything without a security group gets this one, which allows nothing.
resource "aws_default_security_group" "closed" {
  vpc_id = aws_vpc.this.id
}

resource "aws_internet_gateway" "this" {
  vpc_id = aws_vpc.this.id
  tags   = { Name = var.name }
}

resource "aws_route_table" "public" {
  vpc_id = aws_vpc.this.id
  tags   = { Name = var.name }
}

resource "aws_route" "out" {
  route_table_id         = aws_route_table.public.id
  destination_cidr_block = "0.0.0.0/0"
  gateway_id             = aws_internet_gateway.this.id
}

# Three zones, because the spot capacity of GPU machines differs between them.
resource "aws_subnet" "public" {
  count                   = min(3, length(data.aws_availability_zones.this.names))
  vpc_id                  = aws_vpc.this.id
  cidr_block              = cidrsubnet(aws_vpc.this.cidr_block, 8, count.index)
  availability_zone       = data.aws_availability_zones.this.names[count.index]
  map_public_ip_on_launch = false # each machine and task asks for an address itself
  tags                    = { Name = "${var.name}-${count.index}" }
}

resource "aws_route_table_association" "public" {
  count          = length(aws_subnet.public)
  subnet_id      = aws_subnet.public[count.index].id
  route_table_id = aws_route_table.public.id
}

# S3 without going through the internet; a gateway endpoint costs nothing.
resource "aws_vpc_endpoint" "s3" {
  vpc_id          = aws_vpc.this.id
  service_name    = "com.amazonaws.${var.region}.s3"
  route_table_ids = [aws_route_table.public.id]
}

# Workers, jobs and GPU machines: outgoing connections only.
resource "aws_security_group" "job" {
  name        = "${var.name}-job"
  description = "Workers, jobs and GPU machines: no way in"
  vpc_id      = aws_vpc.this.id
}

resource "aws_vpc_security_group_egress_rule" "job" {
  security_group_id = aws_security_group.job.id
  description       = "Kaggle, the image registry, S3, AWS's APIs, Prefect"
  ip_protocol       = "-1"
  cidr_ipv4         = "0.0.0.0/0"
}
