/** Return how many of a sorted list, or of its first `length`, are no greater than a value. */
export function upperBound(
  list: ArrayLike<number>,
  value: number,
  length = list.length
): number {
  let [low, high] = [0, length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (list[middle] <= value) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

/** Return a copy of a list with room for twice as many numbers. */
export function grown(list: Uint32Array): Uint32Array {
  const longer = new Uint32Array(2 * list.length);
  longer.set(list);
  return longer;
}
