# Who may do what. Each action stands with its reason; where AWS knows no narrower resource than `*`, it says so.

locals {
  # Kaggle's token goes to jobs alone, Prefect Cloud's key to jobs and workers.
  secrets = {
    job     = concat([aws_secretsmanager_secret.kaggle.arn], aws_secretsmanager_secret.prefect[*].arn)
    service = aws_secretsmanager_secret.prefect[*].arn
  }
}

data "aws_iam_policy_document" "by_tasks" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["ecs-tasks.amazonaws.com"]
    }
    # Only tasks of this account: else another account's ECS could be talked into using the role.
    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account]
    }
  }
}

# Execution roles: what ECS itself does to start a container.
resource "aws_iam_role" "execution" {
  for_each           = local.secrets
  name               = "${var.name}-execution-${each.key}"
  assume_role_policy = data.aws_iam_policy_document.by_tasks.json
}

data "aws_iam_policy_document" "execution" {
  for_each = local.secrets

  statement {
    sid       = "LogInToTheRegistry" # has no resource of its own
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
    sid       = "WriteLogs" # the group exists, so no right to make one
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

# The jobs' role: the store, and nothing else. No delete: a night removes nothing (`prune` is a person's).
resource "aws_iam_role" "job" {
  name               = "${var.name}-job"
  assume_role_policy = data.aws_iam_policy_document.by_tasks.json
}

data "aws_iam_policy_document" "job" {
  statement {
    sid       = "ReadAndWriteObjects" # versions, predictions, champions; end an upload in parts that failed
    actions   = ["s3:AbortMultipartUpload", "s3:GetObject", "s3:PutObject"]
    resources = ["${aws_s3_bucket.store.arn}/store/*"]
  }
  statement {
    sid       = "ListTheStore" # numbered lists: the highest number holds; without it a missing key reads as forbidden
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
    sid       = "DescribeJobs" # register and compare task definitions; AWS knows no resource for them
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
    sid       = "WatchAndStopJobs" # read a task's tags, stop one that was cancelled
    actions   = ["ecs:DescribeTasks", "ecs:StopTask"]
    resources = [format(local.prefix, "ecs", "task/${aws_ecs_cluster.this.name}/*")]
  }
  statement {
    sid       = "TagJobs" # the flow run's id, by which its events are known; only while starting it
    actions   = ["ecs:TagResource"]
    resources = [format(local.prefix, "ecs", "task/${aws_ecs_cluster.this.name}/*")]
    condition {
      test     = "StringEquals"
      variable = "ecs:CreateAction"
      values   = ["RunTask"]
    }
  }
  statement {
    sid       = "GiveJobsTheirRoles" # these two and no other
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
    sid       = "ShowACrashedJobsLog" # in Prefect, where the job could not send it itself
    actions   = ["logs:GetLogEvents"]
    resources = ["${aws_cloudwatch_log_group.this["job"].arn}:*"]
  }
}

resource "aws_iam_role_policy" "worker" {
  name   = "run-jobs"
  role   = aws_iam_role.worker.id
  policy = data.aws_iam_policy_document.worker.json
}

# The GPU machines' role: be a part of this cluster.
resource "aws_iam_role" "machine" {
  name = "${var.name}-machine"
  assume_role_policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Action = "sts:AssumeRole", Principal = { Service = "ec2.amazonaws.com" } }]
  })
}

data "aws_iam_policy_document" "machine" {
  statement {
    sid       = "FindTheService" # AWS knows no resource for it
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
    sid       = "TakeTasks" # hear of tasks, send metrics, drain when spot takes the machine back
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
