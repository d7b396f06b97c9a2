# What the services may do: work with the objects of the bucket and list them. Attach it to the role that they run as.

data "aws_iam_policy_document" "services" {
  statement {
    sid       = "Objects"
    actions   = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"]
    resources = ["${aws_s3_bucket.images.arn}/*"]
  }

  statement {
    sid       = "Bucket"
    actions   = ["s3:ListBucket", "s3:GetBucketLocation"]
    resources = [aws_s3_bucket.images.arn]
  }
}

resource "aws_iam_policy" "services" {
  name        = "${var.bucket_name}-services"
  description = "The services of imagepipe: objects of their bucket, nothing else."
  policy      = data.aws_iam_policy_document.services.json
  tags        = var.tags
}
