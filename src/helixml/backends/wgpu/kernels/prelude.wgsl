// What every kernel may use: the number of a group, and of an element of a view.

// The number of a workgroup in a grid that was folded to two dimensions.
fn linear(group: vec3<u32>, groups: vec3<u32>) -> u32 {
  return group.x + group.y * groups.x;
}
