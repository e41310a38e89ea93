variable "name" {
  description = "Begins the name of everything that is made."
  type        = string
  default     = "mnist-nightly"
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{2,19}$", var.name))
    error_message = "3 to 20 small letters, digits and hyphens, a letter first."
  }
}

variable "region" {
  description = "AWS region; one that has GPU machines."
  type        = string
  default     = "us-east-1"
  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "A region's name, such as eu-central-1."
  }
}

variable "endpoint" {
  description = "Where AWS answers, if not at its own addresses: for checks against moto."
  type        = string
  default     = null
  validation {
    condition     = var.endpoint == null || can(regex("^http://(127\\.0\\.0\\.1|localhost)(:[0-9]+)?$", var.endpoint))
    error_message = "An http address on loopback."
  }
}

variable "image_tag" {
  description = "Tag of both images in the registry; `make deploy` gives the commit's."
  type        = string
  default     = "none"
  validation {
    condition     = can(regex("^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$", var.image_tag)) && var.image_tag != "latest"
    error_message = "An image tag, and not `latest`: tags are immutable."
  }
}

variable "prefect_cloud_api_url" {
  description = "Prefect Cloud's PREFECT_API_URL for a worker alone; null: server and PostgreSQL run in the cluster."
  type        = string
  default     = null
  validation {
    condition = (var.prefect_cloud_api_url == null ||
    can(regex("^https://api\\.prefect\\.cloud/api/accounts/[0-9a-f-]{36}/workspaces/[0-9a-f-]{36}$", var.prefect_cloud_api_url)))
    error_message = "As `prefect config view` shows it: https://api.prefect.cloud/api/accounts/…/workspaces/…"
  }
}

variable "gpu_instance_types" {
  description = "Machines with one NVIDIA GPU of compute capability 7.5 or newer, cheapest first; more kinds, more spot capacity."
  type        = list(string)
  default     = ["g4dn.xlarge", "g6.xlarge", "g5.xlarge"]
  validation {
    condition     = length(var.gpu_instance_types) > 0 && alltrue([for kind in var.gpu_instance_types : can(regex("^[gp][0-9][a-z0-9]*\\.[0-9]*x?large$", kind))])
    error_message = "EC2 instance types of the families g and p."
  }
}

variable "gpu_machines_max" {
  description = "Most GPU machines at one time, of spot and of on-demand each."
  type        = number
  default     = 1
  validation {
    condition     = var.gpu_machines_max >= 1 && var.gpu_machines_max <= 4 && floor(var.gpu_machines_max) == var.gpu_machines_max
    error_message = "1 to 4."
  }
}

variable "gpu_hours_max" {
  description = "Hours after which a GPU run is killed; the machine powers itself off one hour later."
  type        = number
  default     = 3
  validation {
    condition     = var.gpu_hours_max >= 1 && var.gpu_hours_max <= 12 && floor(var.gpu_hours_max) == var.gpu_hours_max
    error_message = "1 to 12."
  }
}

variable "log_days" {
  description = "Days for which logs are kept."
  type        = number
  default     = 30
  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 180, 365], var.log_days)
    error_message = "One of CloudWatch's: 1, 3, 5, 7, 14, 30, 60, 90, 120, 180, 365."
  }
}

variable "budget_usd" {
  description = "Dollars a month; mail goes out at 80 % spent, and when the forecast passes 100 %."
  type        = number
  default     = 60
  validation {
    condition     = var.budget_usd >= 1
    error_message = "At least 1."
  }
}

variable "budget_email" {
  description = "Who gets the budget's mail."
  type        = string
  validation {
    condition     = can(regex("^[^@ ]+@[^@ ]+\\.[^@ ]+$", var.budget_email))
    error_message = "An address for mail."
  }
}

variable "github_repository" {
  description = "owner/name of the GitHub repository whose tags deploy, by OIDC; null: none does."
  type        = string
  default     = null
  validation {
    condition     = var.github_repository == null || can(regex("^[A-Za-z0-9-]+/[A-Za-z0-9._-]+$", var.github_repository))
    error_message = "owner/name."
  }
}

variable "destroy_data" {
  description = "Whether `terraform destroy` may take the bucket and the images with all that is in them."
  type        = bool
  default     = false
}

variable "state_bucket" {
  description = "The bucket of Terraform's own state, where a tag deploys; null: state lies on the disk."
  type        = string
  default     = null
  validation {
    condition     = var.state_bucket == null || can(regex("^[a-z0-9.-]{3,63}$", var.state_bucket))
    error_message = "A bucket's name."
  }
}
