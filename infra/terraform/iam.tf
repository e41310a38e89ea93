# Who may do what. Each action has its reason beside it, and a note if AWS supports no narrower resource than `*`.

locals {
  # Only jobs get Kaggle's token; jobs and services get Prefect Cloud's key, or the login of the server.
  prefect_secrets = concat(aws_secretsmanager_secret.prefect[*].arn, aws_secretsmanager_secret.login[*].arn)
  secrets = {
    job     = concat([aws_secretsmanager_secret.kaggle.arn], local.prefect_secrets)
    service = local.prefect_secrets
  }
}

data "aws_iam_policy_document" "by_tasks" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["ecs-tasks.amazonaws.com"]
    }
    # Only tasks of this account: otherwise ECS could be made to use the role for another account (confused deputy).
    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account]
    }
  }
}

# Execution roles: what ECS itself needs to start a container.
resource "aws_iam_role" "execution" {
  for_each           = local.secrets
  name               = "${var.name}-execution-${each.key}"
  assume_role_policy = data.aws_iam_policy_document.by_tasks.json
}

data "aws_iam_policy_document" "execution" {
  for_each = local.secrets

  statement {
    sid       = "LogInToTheRegistry" # supports no resource-level permission
    actions   = ["ecr:GetAuthorizationToken"]
    resources = ["*"]
  }
  statement {
    sid = "PullOurImages" # the three calls of a pull
    actions = [
      "ecr:BatchCheckLayerAvailability",
      "ecr:BatchGetImage",
      "ecr:GetDownloadUrlForLayer",
    ]
    resources = [for repository in aws_ecr_repository.image : repository.arn]
  }
  statement {
    sid       = "WriteLogs" # the group exists, so no permission to create one
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.this[each.key].arn}:*"]
  }
  dynamic "statement" {
    for_each = length(each.value) > 0 ? [each.value] : []
    content {
      sid       = "PutSecretsIntoTheEnvironment"
      actions   = ["secretsmanager:GetSecretValue"]
      resources = statement.value
    }
  }
}

resource "aws_iam_role_policy" "execution" {
  for_each = local.secrets
  name     = "start-containers"
  role     = aws_iam_role.execution[each.key].id
  policy   = data.aws_iam_policy_document.execution[each.key].json
}

# The jobs' role: the store and nothing else. No delete: a night removes nothing (prune.tf does).
resource "aws_iam_role" "job" {
  name               = "${var.name}-job"
  assume_role_policy = data.aws_iam_policy_document.by_tasks.json
}

data "aws_iam_policy_document" "job" {
  statement {
    sid       = "ReadAndWriteObjects" # versions, predictions, champions; abort a failed multipart upload
    actions   = ["s3:AbortMultipartUpload", "s3:GetObject", "s3:PutObject"]
    resources = ["${aws_s3_bucket.store.arn}/store/*"]
  }
  statement {
    sid       = "ListTheStore" # numbered lists: the highest number counts; without it a missing key is reported as forbidden
    actions   = ["s3:ListBucket"]
    resources = [aws_s3_bucket.store.arn]
  }
}

resource "aws_iam_role_policy" "job" {
  name   = "store"
  role   = aws_iam_role.job.id
  policy = data.aws_iam_policy_document.job.json
}

# The workers' role: start, watch and stop jobs.
resource "aws_iam_role" "worker" {
  name               = "${var.name}-worker"
  assume_role_policy = data.aws_iam_policy_document.by_tasks.json
}

data "aws_iam_policy_document" "worker" {
  statement {
    sid       = "DescribeJobs" # register and compare task definitions; supports no resource-level permission
    actions   = ["ecs:RegisterTaskDefinition", "ecs:DescribeTaskDefinition"]
    resources = ["*"]
  }
  statement {
    sid       = "StartJobs" # task definitions of the pools' two families, in this cluster
    actions   = ["ecs:RunTask"]
    resources = [format(local.prefix, "ecs", "task-definition/${var.name}-job-*")]
    condition {
      test     = "ArnEquals"
      variable = "ecs:cluster"
      values   = [aws_ecs_cluster.this.arn]
    }
  }
  statement {
    sid       = "WatchAndStopJobs" # read a task's tags, stop a cancelled one
    actions   = ["ecs:DescribeTasks", "ecs:StopTask"]
    resources = [format(local.prefix, "ecs", "task/${aws_ecs_cluster.this.name}/*")]
  }
  statement {
    sid       = "TagJobs" # the flow run's id, which identifies its events; only while starting it
    actions   = ["ecs:TagResource"]
    resources = [format(local.prefix, "ecs", "task/${aws_ecs_cluster.this.name}/*")]
    condition {
      test     = "StringEquals"
      variable = "ecs:CreateAction"
      values   = ["RunTask"]
    }
  }
  statement {
    sid       = "GiveJobsTheirRoles" # only these two
    actions   = ["iam:PassRole"]
    resources = [aws_iam_role.job.arn, aws_iam_role.execution["job"].arn]
    condition {
      test     = "StringEquals"
      variable = "iam:PassedToService"
      values   = ["ecs-tasks.amazonaws.com"]
    }
  }
  statement {
    sid       = "ReadTaskEvents"
    actions   = ["sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:GetQueueUrl", "sqs:ReceiveMessage"]
    resources = [aws_sqs_queue.tasks.arn]
  }
  statement {
    sid       = "ShowACrashedJobsLog" # in Prefect, if the job could not send it itself
    actions   = ["logs:GetLogEvents"]
    resources = ["${aws_cloudwatch_log_group.this["job"].arn}:*"]
  }
}

resource "aws_iam_role_policy" "worker" {
  name   = "run-jobs"
  role   = aws_iam_role.worker.id
  policy = data.aws_iam_policy_document.worker.json
}

# The GPU machines' role: join this cluster.
resource "aws_iam_role" "machine" {
  name = "${var.name}-machine"
  assume_role_policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Action = "sts:AssumeRole", Principal = { Service = "ec2.amazonaws.com" } }]
  })
}

data "aws_iam_policy_document" "machine" {
  statement {
    sid       = "FindTheService" # supports no resource-level permission
    actions   = ["ecs:DiscoverPollEndpoint"]
    resources = ["*"]
  }
  statement {
    sid = "JoinTheCluster" # register, and report what happens to tasks and the machine
    actions = [
      "ecs:DeregisterContainerInstance",
      "ecs:RegisterContainerInstance",
      "ecs:SubmitAttachmentStateChanges",
      "ecs:SubmitContainerStateChange",
      "ecs:SubmitTaskStateChange",
    ]
    resources = [aws_ecs_cluster.this.arn]
  }
  statement {
    sid       = "TakeTasks" # receive tasks, send metrics, drain when a spot machine is reclaimed
    actions   = ["ecs:Poll", "ecs:StartTelemetrySession", "ecs:UpdateContainerInstancesState"]
    resources = [format(local.prefix, "ecs", "container-instance/${aws_ecs_cluster.this.name}/*")]
  }
}

resource "aws_iam_role_policy" "machine" {
  name   = "join-the-cluster"
  role   = aws_iam_role.machine.id
  policy = data.aws_iam_policy_document.machine.json
}

resource "aws_iam_instance_profile" "machine" {
  name = "${var.name}-machine"
  role = aws_iam_role.machine.name
}
