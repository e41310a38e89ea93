# The store stays bounded: once a week a task of its own deletes what `prune` allows. Jobs cannot delete.

locals {
  # The task's last revision. Its resource says the same, but is unknown in the plan for another image, which would
  # then change role and schedule, as no tag may (infra/deploy_plan.py).
  prune_task = format(local.prefix, "ecs", "task-definition/${var.name}-prune")
}

resource "aws_iam_role" "prune" {
  name               = "${var.name}-prune"
  assume_role_policy = data.aws_iam_policy_document.by_tasks.json
}

data "aws_iam_policy_document" "prune" {
  statement {
    sid = "DeleteOldVersions" # read which are named, mark the store as ours, delete; end unfinished uploads
    actions = [
      "s3:AbortMultipartUpload",
      "s3:DeleteObject",
      "s3:GetObject",
      "s3:PutObject",
    ]
    resources = ["${aws_s3_bucket.store.arn}/store/*"]
  }
  statement {
    sid       = "ListTheStore"
    actions   = ["s3:ListBucket", "s3:ListBucketMultipartUploads"]
    resources = [aws_s3_bucket.store.arn]
  }
}

resource "aws_iam_role_policy" "prune" {
  name   = "store"
  role   = aws_iam_role.prune.id
  policy = data.aws_iam_policy_document.prune.json
}

resource "aws_ecs_task_definition" "prune" {
  family                   = "${var.name}-prune"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = 256
  memory                   = 1024
  execution_role_arn       = aws_iam_role.execution["service"].arn
  task_role_arn            = aws_iam_role.prune.arn

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = "X86_64" # that of the images (infra/deploy.sh)
  }

  volume {
    name = "tmp"
  }

  container_definitions = jsonencode([{
    name    = "prune"
    image   = local.predict_image
    command = ["timeout", "3600", "python", "-m", "flows", "prune", "--yes", "--json"]
    environment = [for name, value in {
      AWS_DEFAULT_REGION = var.region
      MNIST_KAGGLE       = "live" # which namespace; nothing is asked of Kaggle
      MNIST_STORE        = "s3://${aws_s3_bucket.store.id}/store"
      MNIST_HOME         = "/tmp/mnist"
    } : { name = name, value = value }]
    essential              = true
    readonlyRootFilesystem = true
    mountPoints            = [{ sourceVolume = "tmp", containerPath = "/tmp", readOnly = false }]
    linuxParameters        = { initProcessEnabled = true }
    logConfiguration = {
      logDriver = "awslogs"
      options = {
        awslogs-group         = aws_cloudwatch_log_group.this["service"].name
        awslogs-region        = var.region
        awslogs-stream-prefix = "prune"
      }
    }
  }])
}

# The schedule's role: start this task, with these roles.
resource "aws_iam_role" "schedule" {
  name = "${var.name}-schedule"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "scheduler.amazonaws.com" }
      Condition = { StringEquals = { "aws:SourceAccount" = local.account } }
    }]
  })
}

data "aws_iam_policy_document" "schedule" {
  statement {
    sid       = "StartPrune"
    actions   = ["ecs:RunTask"]
    resources = [local.prune_task, "${local.prune_task}:*"]
    condition {
      test     = "ArnEquals"
      variable = "ecs:cluster"
      values   = [aws_ecs_cluster.this.arn]
    }
  }
  statement {
    sid       = "GiveItItsRoles"
    actions   = ["iam:PassRole"]
    resources = [aws_iam_role.prune.arn, aws_iam_role.execution["service"].arn]
    condition {
      test     = "StringEquals"
      variable = "iam:PassedToService"
      values   = ["ecs-tasks.amazonaws.com"]
    }
  }
}

resource "aws_iam_role_policy" "schedule" {
  name   = "start-prune"
  role   = aws_iam_role.schedule.id
  policy = data.aws_iam_policy_document.schedule.json
}

# Sunday afternoon: no night is under way. The task's last revision is started, so that a deploy need not change this.
resource "aws_scheduler_schedule" "prune" {
  name                = "${var.name}-prune"
  description         = "Delete old versions from the store"
  schedule_expression = "cron(0 14 ? * SUN *)"

  flexible_time_window {
    mode = "OFF"
  }

  depends_on = [aws_ecs_task_definition.prune]

  target {
    arn      = aws_ecs_cluster.this.arn
    role_arn = aws_iam_role.schedule.arn

    ecs_parameters {
      task_definition_arn = local.prune_task
      launch_type         = "FARGATE"

      network_configuration {
        subnets          = aws_subnet.public[*].id
        security_groups  = [aws_security_group.job.id]
        assign_public_ip = true
      }
    }

    retry_policy {
      maximum_retry_attempts = 3
    }
  }
}
