terraform {
  required_version = ">= 1.10"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.100"
    }
  }
}

# With another endpoint (moto on loopback) nothing may contact the real AWS.
provider "aws" {
  region                      = var.region
  skip_credentials_validation = var.endpoint != null
  skip_metadata_api_check     = var.endpoint != null
  max_retries                 = var.endpoint == null ? 25 : 2
  s3_use_path_style           = var.endpoint != null

  dynamic "endpoints" {
    for_each = var.endpoint[*]
    content {
      autoscaling      = endpoints.value
      budgets          = endpoints.value
      cloudwatchlogs   = endpoints.value
      ec2              = endpoints.value
      ecr              = endpoints.value
      ecs              = endpoints.value
      efs              = endpoints.value
      events           = endpoints.value
      iam              = endpoints.value
      s3               = endpoints.value
      scheduler        = endpoints.value
      secretsmanager   = endpoints.value
      servicediscovery = endpoints.value
      sqs              = endpoints.value
      ssm              = endpoints.value
      sts              = endpoints.value
    }
  }

  default_tags {
    tags = { Project = var.name, ManagedBy = "terraform" }
  }
}

data "aws_caller_identity" "this" {}

# By name: a Local Zone that the account has opted into (us-east-1-bos-1a) would come first and has no Fargate.
data "aws_availability_zones" "this" {
  state = "available"
  filter {
    name   = "zone-name"
    values = [for letter in split("", "abcdef") : "${var.region}${letter}"]
  }
}

locals {
  account = data.aws_caller_identity.this.account_id
  prefix  = "arn:aws:%s:${var.region}:${local.account}:%s"
}
