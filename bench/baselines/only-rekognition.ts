import { IndexFacesCommand, RekognitionClient } from '@aws-sdk/client-rekognition'

const rekognition = new RekognitionClient()

/** A function that needs nothing but Rekognition. */
export const handler = () =>
  rekognition.send(
    new IndexFacesCommand({
      CollectionId: 'collection',
      Image: { S3Object: { Bucket: process.env.S3_BUCKET_NAME, Name: 'photo' } },
    }),
  )
