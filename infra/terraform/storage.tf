# The store, the image registry, the secrets, the logs.

resource "aws_s3_bucket" "store" {
  bucket        = "${var.name}-${local.account}-${var.region}"
  force_destroy = var.destroy_data
}

resource "aws_s3_bucket_versioning" "store" {
  bucket = aws_s3_bucket.store.id
  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "store" {
  bucket = aws_s3_bucket.store.id
  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256" # S3's default; an own key costs $1 a month and another permission
    }
  }
}

resource "aws_s3_bucket_public_access_block" "store" {
  bucket                  = aws_s3_bucket.store.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "store" {
  bucket = aws_s3_bucket.store.id
  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

# Current objects stay: versions and champions are the job's memory, and Terraform does not know which are needed.
resource "aws_s3_bucket_lifecycle_configuration" "store" {
  bucket     = aws_s3_bucket.store.id
  depends_on = [aws_s3_bucket_versioning.store]

  rule {
    id     = "noncurrent"
    status = "Enabled"
    filter {}
    noncurrent_version_expiration {
      noncurrent_days = 30
    }
  }

  rule {
    id     = "unfinished-uploads"
    status = "Enabled"
    filter {}
    abort_incomplete_multipart_upload {
      days_after_initiation = 3
    }
  }
}

data "aws_iam_policy_document" "store" {
  statement {
    sid       = "TlsOnly"
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = [aws_s3_bucket.store.arn, "${aws_s3_bucket.store.arn}/*"]
    principals {
      type        = "*"
      identifiers = ["*"]
    }
    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }

  # Champions, leases, versions and nights, store/<server>/<competition>/<digest>/…, are written create-only, and S3
  # enforces it for everybody. (Content-addressed objects are under store/objects/, which this does not match.)
  statement {
    sid       = "CreateOnly"
    effect    = "Deny"
    actions   = ["s3:PutObject"]
    resources = ["${aws_s3_bucket.store.arn}/store/*/*/*/*"]
    principals {
      type        = "*"
      identifiers = ["*"]
    }
    condition {
      test     = "Null"
      variable = "s3:if-none-match"
      values   = ["true"]
    }
    condition {
      test     = "Bool"
      variable = "s3:ObjectCreationOperation"
      values   = ["true"]
    }
  }
}

resource "aws_s3_bucket_policy" "store" {
  bucket     = aws_s3_bucket.store.id
  policy     = data.aws_iam_policy_document.store.json
  depends_on = [aws_s3_bucket_public_access_block.store]
}

resource "aws_ecr_repository" "image" {
  for_each             = toset(["predict", "train"])
  name                 = "${var.name}/${each.key}"
  image_tag_mutability = "IMMUTABLE"
  force_delete         = var.destroy_data

  image_scanning_configuration {
    scan_on_push = true
  }
}

resource "aws_ecr_lifecycle_policy" "image" {
  for_each   = aws_ecr_repository.image
  repository = each.value.name
  policy = jsonencode({
    rules = [
      {
        rulePriority = 1
        description  = "What lost its tag"
        selection    = { tagStatus = "untagged", countType = "sinceImagePushed", countUnit = "days", countNumber = 1 }
        action       = { type = "expire" }
      },
      {
        rulePriority = 2
        description  = "All but the last five: enough to go back, and the training image is large"
        selection    = { tagStatus = "any", countType = "imageCountMoreThan", countNumber = 5 }
        action       = { type = "expire" }
      },
    ]
  })
}

# Secrets are created empty: a person sets the value (README), so that it is never in Terraform's state.
resource "aws_secretsmanager_secret" "kaggle" {
  name                    = "${var.name}/kaggle-api-token"
  description             = "Kaggle's API token, as plain text"
  recovery_window_in_days = var.destroy_data ? 0 : 7
}

resource "aws_secretsmanager_secret" "prefect" {
  count                   = var.prefect_cloud_api_url == null ? 0 : 1
  name                    = "${var.name}/prefect-api-key"
  description             = "Prefect Cloud's API key (PREFECT_API_KEY), as plain text"
  recovery_window_in_days = var.destroy_data ? 0 : 7
}

# `make deploy` sets a random value, once.
resource "aws_secretsmanager_secret" "login" {
  count                   = local.own_server
  name                    = "${var.name}/prefect-login"
  description             = "Login of Prefect's server (user:password), as plain text"
  recovery_window_in_days = var.destroy_data ? 0 : 7
}

resource "aws_cloudwatch_log_group" "this" {
  for_each          = toset(["job", "service"])
  name              = "/${var.name}/${each.key}"
  retention_in_days = var.log_days
}
