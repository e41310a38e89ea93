# The cluster: Fargate for what needs no GPU, and two groups of GPU machines that have size zero until a task waits.

resource "aws_ecs_cluster" "this" {
  name = var.name
}

locals {
  # Percentage of on-demand machines in each group. ECS does not switch to another capacity provider by itself: a
  # run that finds no spot machine is started again on `on-demand` (infra/README.md).
  gpu_groups = { spot = 0, on-demand = 100 }
}

resource "aws_launch_template" "gpu" {
  name                                 = "${var.name}-gpu"
  image_id                             = "resolve:ssm:/aws/service/ecs/optimized-ami/amazon-linux-2023/gpu/recommended/image_id"
  instance_initiated_shutdown_behavior = "terminate"
  update_default_version               = true

  iam_instance_profile {
    arn = aws_iam_instance_profile.machine.arn
  }

  network_interfaces {
    associate_public_ip_address = true
    delete_on_termination       = true
    security_groups             = [aws_security_group.job.id]
  }

  # One hop, so that containers in bridge mode cannot reach the machine's own credentials.
  metadata_options {
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  block_device_mappings {
    device_name = "/dev/xvda"
    ebs {
      volume_type           = "gp3"
      volume_size           = 60
      encrypted             = true
      delete_on_termination = true
    }
  }

  # Power off in any case: the last time limit on a GPU (the first is the job's own, in infra/pools).
  user_data = base64encode(<<-EOT
    #!/bin/bash
    cat >> /etc/ecs/ecs.config <<CONFIG
    ECS_CLUSTER=${aws_ecs_cluster.this.name}
    ECS_ENABLE_GPU_SUPPORT=true
    ECS_ENABLE_SPOT_INSTANCE_DRAINING=true
    ECS_IMAGE_PULL_BEHAVIOR=prefer-cached
    CONFIG
    shutdown -P +${(var.gpu_hours_max + 1) * 60}
  EOT
  )

  tag_specifications {
    resource_type = "instance"
    tags          = { Name = "${var.name}-gpu", Project = var.name }
  }
  tag_specifications {
    resource_type = "volume"
    tags          = { Name = "${var.name}-gpu", Project = var.name }
  }
}

resource "aws_autoscaling_group" "gpu" {
  for_each                  = local.gpu_groups
  name                      = "${var.name}-gpu-${each.key}"
  min_size                  = 0
  max_size                  = var.gpu_machines_max
  vpc_zone_identifier       = aws_subnet.public[*].id
  protect_from_scale_in     = true # the capacity provider removes it from an idle machine
  max_instance_lifetime     = 86400
  wait_for_capacity_timeout = "0"

  mixed_instances_policy {
    instances_distribution {
      on_demand_base_capacity                  = 0
      on_demand_percentage_above_base_capacity = each.value
      on_demand_allocation_strategy            = "prioritized"
      spot_allocation_strategy                 = "price-capacity-optimized"
    }
    launch_template {
      launch_template_specification {
        launch_template_id = aws_launch_template.gpu.id
        version            = aws_launch_template.gpu.latest_version
      }
      dynamic "override" {
        for_each = var.gpu_instance_types
        content {
          instance_type = override.value
        }
      }
    }
  }

  # ECS sets this tag itself; it is named here so that the next plan does not remove it.
  tag {
    key                 = "AmazonECSManaged"
    value               = "true"
    propagate_at_launch = true
  }

  lifecycle {
    ignore_changes = [desired_capacity] # set by the capacity provider
  }
}

resource "aws_ecs_capacity_provider" "gpu" {
  for_each = local.gpu_groups
  name     = "${var.name}-gpu-${each.key}"

  auto_scaling_group_provider {
    auto_scaling_group_arn         = aws_autoscaling_group.gpu[each.key].arn
    managed_termination_protection = "ENABLED"
    managed_draining               = "ENABLED"

    managed_scaling {
      status                    = "ENABLED"
      target_capacity           = 100
      minimum_scaling_step_size = 1
      maximum_scaling_step_size = 1
      instance_warmup_period    = 300
    }
  }
}

resource "aws_ecs_cluster_capacity_providers" "this" {
  cluster_name       = aws_ecs_cluster.this.name
  capacity_providers = concat([for group in aws_ecs_capacity_provider.gpu : group.name], var.dask_workers > 0 ? ["FARGATE_SPOT"] : [])
}

# Each change of a task's state goes to a queue that the workers read. Without it, a task that never started or was
# killed would not become a state in Prefect.
resource "aws_sqs_queue" "tasks" {
  name                       = "${var.name}-tasks"
  message_retention_seconds  = 86400
  visibility_timeout_seconds = 300
  sqs_managed_sse_enabled    = true
}

data "aws_iam_policy_document" "tasks" {
  statement {
    actions   = ["sqs:SendMessage"]
    resources = [aws_sqs_queue.tasks.arn]
    principals {
      type        = "Service"
      identifiers = ["events.amazonaws.com"]
    }
    condition {
      test     = "ArnEquals"
      variable = "aws:SourceArn"
      values   = [aws_cloudwatch_event_rule.tasks.arn]
    }
  }
}

resource "aws_sqs_queue_policy" "tasks" {
  queue_url = aws_sqs_queue.tasks.url
  policy    = data.aws_iam_policy_document.tasks.json
}

resource "aws_cloudwatch_event_rule" "tasks" {
  name        = "${var.name}-tasks"
  description = "The cluster's tasks change state"
  event_pattern = jsonencode({
    source        = ["aws.ecs"]
    "detail-type" = ["ECS Task State Change"]
    detail        = { clusterArn = [aws_ecs_cluster.this.arn] }
  })
}

resource "aws_cloudwatch_event_target" "tasks" {
  rule = aws_cloudwatch_event_rule.tasks.name
  arn  = aws_sqs_queue.tasks.arn
}

# The costs of the whole account: a filter by tag works only a day after the tag is activated for billing.
resource "aws_budgets_budget" "month" {
  name         = "${var.name}-month"
  budget_type  = "COST"
  limit_amount = tostring(var.budget_usd)
  limit_unit   = "USD"
  time_unit    = "MONTHLY"

  dynamic "notification" {
    for_each = { ACTUAL = 80, FORECASTED = 100 }
    content {
      notification_type          = notification.key
      comparison_operator        = "GREATER_THAN"
      threshold                  = notification.value
      threshold_type             = "PERCENTAGE"
      subscriber_email_addresses = [var.budget_email]
    }
  }
}
