/**
 * The errors this server answers with, and the service's text for each
 * (Developer Guide, 'Error handling', and what the service was seen to answer).
 */
const texts = {
  AccessDeniedException: 'User is not authorized to perform this operation.',
  ConflictException: 'A User with the same Id already exists within the collection.',
  ImageTooLargeException: 'Image size is too large.',
  InternalServerError: 'Internal server error',
  InvalidImageFormatException: 'Request has invalid image format',
  InvalidPaginationTokenException: 'Invalid Pagination Token',
  InvalidParameterException: 'Request has invalid parameters',
  InvalidS3ObjectException:
    'Unable to get object metadata from S3. Check object key, region and/or access permissions.',
  ProvisionedThroughputExceededException: 'Provisioned Rate exceeded.',
  ResourceAlreadyExistsException: 'The resource already exists.',
  ResourceNotFoundException: 'The resource does not exist.',
  SerializationException: 'The request could not be read as JSON.',
  ServiceQuotaExceededException: 'The size of the collection exceeds the allowed limit.',
  ThrottlingException: 'Slow down; sudden increase in rate of requests.',
  UnknownOperationException: 'The operation is not known.',
  ValidationException: '1 validation error detected.',
} as const

export type ErrorName = keyof typeof texts

/** An error of the service: its name on the wire, and its message (the service's own text unless given). */
export class RekognitionError extends Error {
  override readonly name: ErrorName

  constructor(name: ErrorName, message: string = texts[name]) {
    super(message)
    this.name = name
  }

  /** 400 for all but the service's own failures. */
  get status(): number {
    return this.name === 'InternalServerError' ? 500 : 400
  }

  /** Whether the caller came too often, as opposed to with something wrong. */
  get throttles(): boolean {
    return this.name === 'ThrottlingException' || this.name === 'ProvisionedThroughputExceededException'
  }
}
