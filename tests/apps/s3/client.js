// @aws-sdk/client-s3: `client.js URL FILE`; connects by listing buckets once. A URL that it
// signs beforehand is written to the file.
'use strict';

const fs = require('node:fs');
const readline = require('node:readline');
const { GetObjectCommand, S3 } = require('@aws-sdk/client-s3');
const { getSignedUrl } = require('@aws-sdk/s3-request-presigner');

const s3 = new S3({
  endpoint: process.argv[2],
  region: 'eu-central-1',
  credentials: { accessKeyId: 'live', secretAccessKey: 'secret' },
  forcePathStyle: true,
  maxAttempts: 1,
});

async function deeds() {
  const Bucket = 'first';
  const Key = 'a key/ä';
  await s3.createBucket({
    Bucket,
    CreateBucketConfiguration: { LocationConstraint: 'eu-central-1' },
  });
  await s3.putObject({ Bucket, Key, Body: Buffer.alloc(100000) });
  const got = await s3.getObject({ Bucket, Key });
  await got.Body.transformToByteArray();
  const url = await getSignedUrl(s3, new GetObjectCommand({ Bucket, Key }));
  fs.writeFileSync(process.argv[3], url);
  const signed = await fetch(url);
  if (!signed.ok) throw new Error(`presigned: ${signed.status}`);
  await signed.arrayBuffer();
  await s3.headObject({ Bucket, Key });
  await s3.copyObject({ Bucket, Key: 'copy', CopySource: encodeURI(`${Bucket}/${Key}`) });
  await s3.listObjectsV2({ Bucket });
  const begun = await s3.createMultipartUpload({ Bucket, Key: 'big' });
  const part = { Bucket, Key: 'big', UploadId: begun.UploadId };
  const { ETag } = await s3.uploadPart({ ...part, PartNumber: 1, Body: 'part' });
  await s3.completeMultipartUpload({
    ...part,
    MultipartUpload: { Parts: [{ PartNumber: 1, ETag }] },
  });
  const other = await s3.createMultipartUpload({ Bucket, Key: 'none' });
  await s3.abortMultipartUpload({ Bucket, Key: 'none', UploadId: other.UploadId });
  await s3.getObject({ Bucket, Key: 'absent' }).catch(() => {});
  await s3.deleteObject({ Bucket, Key: 'big' });
  await s3.deleteObjects({ Bucket, Delete: { Objects: [{ Key: 'copy' }, { Key }] } });
  await s3.deleteBucket({ Bucket });
}

async function main() {
  await s3.listBuckets({});
  console.log('ready');
  for await (const _ of readline.createInterface({ input: process.stdin })) {
    await deeds();
    console.log('done');
  }
}

main();
