// Index of this workgroup in a dispatch that was folded into two dimensions and perhaps sliced over submits.
fn group_index(wid: vec3<u32>, grid: vec3<u32>, first_group: u32) -> u32 {
    return first_group + wid.y * grid.x + wid.x;
}
