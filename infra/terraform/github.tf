# A tag of the GitHub repository deploys (.github/workflows/ci.yml), with a token that is valid for that job alone. It
# may deploy new images and the task definitions that name them; a person changes roles, network and machines.

resource "aws_iam_openid_connect_provider" "github" {
  count          = var.github_repository == null ? 0 : 1
  url            = "https://token.actions.githubusercontent.com"
  client_id_list = ["sts.amazonaws.com"]
}

data "aws_iam_policy_document" "by_github" {
  count = var.github_repository == null ? 0 : 1
  statement {
    actions = ["sts:AssumeRoleWithWebIdentity"]
    principals {
      type        = "Federated"
      identifiers = [aws_iam_openid_connect_provider.github[0].arn]
    }
    condition {
      test     = "StringEquals"
      variable = "token.actions.githubusercontent.com:aud"
      values   = ["sts.amazonaws.com"]
    }
    # Only jobs of the environment `production`, for which GitHub asks a reviewer and accepts tags only (README).
    condition {
      test     = "StringEquals"
      variable = "token.actions.githubusercontent.com:sub"
      values   = ["repo:${var.github_repository}:environment:production"]
    }
  }
}

resource "aws_iam_role" "deploy" {
  count              = var.github_repository == null ? 0 : 1
  name               = "${var.name}-deploy"
  assume_role_policy = data.aws_iam_policy_document.by_github[0].json

  max_session_duration = 7200 # images, a night that is waited for, the smoke test
}

# Terraform reads the configuration of all that it manages; this AWS managed policy reads no data.
resource "aws_iam_role_policy_attachment" "deploy_reads" {
  count      = var.github_repository == null ? 0 : 1
  role       = aws_iam_role.deploy[0].name
  policy_arn = "arn:aws:iam::aws:policy/SecurityAudit"
}

data "aws_iam_policy_document" "deploy" {
  count = var.github_repository == null ? 0 : 1

  statement {
    sid       = "LogInToTheRegistry" # supports no resource-level permission
    actions   = ["ecr:GetAuthorizationToken"]
    resources = ["*"]
  }
  statement {
    sid = "PushImages" # the calls of a push; tags are immutable, so that none can be replaced
    actions = [
      "ecr:BatchCheckLayerAvailability",
      "ecr:BatchGetImage",
      "ecr:CompleteLayerUpload",
      "ecr:DescribeImages",
      "ecr:InitiateLayerUpload",
      "ecr:PutImage",
      "ecr:UploadLayerPart",
    ]
    resources = [for repository in aws_ecr_repository.image : repository.arn]
  }
  statement {
    sid       = "NameTheNewImages" # register a new revision, deregister the old one; neither supports a resource-level permission
    actions   = ["ecs:DeregisterTaskDefinition", "ecs:RegisterTaskDefinition"]
    resources = ["*"]
  }
  statement {
    sid       = "TagTheNewImages" # Terraform's default tags
    actions   = ["ecs:TagResource"]
    resources = [format(local.prefix, "ecs", "task-definition/${var.name}-*")]
  }
  statement {
    sid       = "RollServices"
    actions   = ["ecs:UpdateService"]
    resources = [format(local.prefix, "ecs", "service/${aws_ecs_cluster.this.name}/*")]
  }
  statement {
    sid       = "ReadTheSchedule" # of prune; a deploy does not change it
    actions   = ["scheduler:GetSchedule"]
    resources = [format(local.prefix, "scheduler", "schedule/default/${var.name}-prune")]
  }
  statement {
    sid     = "KeepTheirRoles" # a task definition names roles
    actions = ["iam:PassRole"]
    resources = concat(
      [aws_iam_role.worker.arn, aws_iam_role.prune.arn, aws_iam_role.execution["service"].arn],
      aws_iam_role.server[*].arn,
      local.dask == 1 ? [aws_iam_role.job.arn] : [], # the role of Dask's workers
    )
    condition {
      test     = "StringEquals"
      variable = "iam:PassedToService"
      values   = ["ecs-tasks.amazonaws.com"]
    }
  }
  dynamic "statement" {
    for_each = local.own_server == 1 ? [1] : []
    content {
      # The port-forward through which pools and deployments are written. Only the server's task has an SSM agent.
      sid     = "ReachPrefect"
      actions = ["ssm:StartSession"]
      resources = [
        format(local.prefix, "ecs", "task/${aws_ecs_cluster.this.name}/*"),
        "arn:aws:ssm:${var.region}::document/AWS-StartPortForwardingSession",
      ]
      # Else a session without a document, which is a root shell, would be allowed too.
      condition {
        test     = "BoolIfExists"
        variable = "ssm:SessionDocumentAccessCheck"
        values   = ["true"]
      }
    }
  }
  dynamic "statement" {
    for_each = aws_secretsmanager_secret.login[*].arn
    content {
      sid       = "LogInToPrefect"
      actions   = ["secretsmanager:GetSecretValue"]
      resources = [statement.value]
    }
  }
  dynamic "statement" {
    for_each = var.state_bucket[*]
    content {
      sid       = "KeepState" # Terraform's state and its lock
      actions   = ["s3:DeleteObject", "s3:GetObject", "s3:ListBucket", "s3:PutObject"]
      resources = ["arn:aws:s3:::${statement.value}", "arn:aws:s3:::${statement.value}/${var.name}/*"]
    }
  }
}

resource "aws_iam_role_policy" "deploy" {
  count  = var.github_repository == null ? 0 : 1
  name   = "deploy"
  role   = aws_iam_role.deploy[0].id
  policy = data.aws_iam_policy_document.deploy[0].json
}
