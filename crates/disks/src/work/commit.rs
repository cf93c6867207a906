//! A copy-on-write image and its backing file become one flat image, as by uml_moo (umlmon, in the process that works
//! on disks).

use std::ops::Range;
use std::os::unix::fs::FileExt;

use config::{DiskKind, DiskName};

use super::draft::{Content, Draft};
use super::error::{failed, refused};
use super::extents::{Extent, Extents, Transfer};
use super::list::mismatch;
use super::meter::Meter;
use super::workplace::Image;
use super::{Error, Watch, Workplace, space};
use crate::cow::{Geometry, Header};

/// Bytes of the bitmap that are read at once: the bits of 256 MiB.
const CHUNK: u64 = 64 << 10;

impl Workplace {
    pub(super) fn commit(
        &self,
        source: &DiskName,
        destination: &DiskName,
        watch: &mut dyn Watch,
    ) -> Result<(), Error> {
        let image = self.read(source)?;
        let header = image.header()?;
        let backing = backing_of(source, &header)?;
        let base = self.read(&backing)?;
        if let Some(why) = mismatch(&header, &base.facts) {
            return Err(refused(source, why));
        }
        self.check_absent(destination)?;
        let layers = Layers::new(&image, &base, &header)?;
        let mut total = 0;
        let mut meter = Meter::new(watch, header.size)?;
        layers.walk(&mut |_, extent, _| {
            if extent.is_data {
                total += extent.part.end - extent.part.start;
            }
            meter.advance(0)
        })?;
        space::check(destination, self.own(), total)?;

        let draft = Draft::begin(self, destination)?;
        let mut meter = Meter::new(watch, total)?;
        let mut transfers =
            [&image, &base].map(|from| Transfer::new(from, destination, &draft.file));
        layers.walk(&mut |layer, extent, to| {
            if !extent.is_data {
                return meter.advance(0);
            }
            let [above, below] = &mut transfers;
            let transfer = if layer == Layer::Image { above } else { below };
            transfer.copy(extent.part, to, &mut meter)
        })?;
        let sized = rustix::fs::ftruncate(&draft.file, header.size);
        sized.map_err(|errno| failed("write", destination, errno))?;
        image.check_unchanged()?;
        base.check_unchanged()?;
        meter.finish()?;
        draft.finish(Content::LeftToHost)
    }
}

fn backing_of(source: &DiskName, header: &Header) -> Result<DiskName, Error> {
    let backing = header.backing_disk();
    let flat = backing.filter(|backing| backing.kind() == DiskKind::Dsk);
    flat.ok_or_else(|| {
        let named = header.shown_backing();
        let why =
            format!("its backing file is {named}, which is no .dsk of the VM; set it with -disk-import first");
        refused(source, why)
    })
}

/// Where a sector comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layer {
    Image,
    Base,
}

/// The two files that together are the disk.
struct Layers<'a> {
    image: &'a Image<'a>,
    base: &'a Image<'a>,
    geometry: Geometry,
    size: u64,
    sector: u64,
}

/// Gets a part of a file, and the offset in the disk where it belongs.
type Visit<'v> = dyn FnMut(Layer, Extent, u64) -> Result<(), Error> + 'v;

impl<'a> Layers<'a> {
    fn new(
        image: &'a Image<'a>,
        base: &'a Image<'a>,
        header: &Header,
    ) -> Result<Layers<'a>, Error> {
        let geometry = header.geometry().map_err(|why| Error::Cow {
            disk: image.disk.clone(),
            why,
        })?;
        Ok(Layers {
            image,
            base,
            geometry,
            size: header.size,
            sector: header.sector.into(),
        })
    }

    /// Goes through the disk.
    fn walk(&self, visit: &mut Visit<'_>) -> Result<(), Error> {
        let (mut above, mut below) = (Extents::of(self.image), Extents::of(self.base));
        self.runs(&mut |in_image, sectors| {
            let end = sectors.end.saturating_mul(self.sector).min(self.size);
            let part = sectors.start.saturating_mul(self.sector)..end;
            let (layer, extents, shift) = if in_image {
                (Layer::Image, &mut above, self.geometry.data)
            } else {
                (Layer::Base, &mut below, 0)
            };
            // The sum is at most the length of the image, which was checked.
            extents.walk(part.start + shift..part.end + shift, &mut |extent| {
                let to = extent.part.start - shift;
                visit(layer, extent, to)
            })
        })
    }

    /// Goes through the bitmap, and joins the sectors that are in the same file.
    fn runs(
        &self,
        visit: &mut dyn FnMut(bool, Range<u64>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let sectors = self.size.div_ceil(self.sector);
        let (mut run, mut in_image) = (0..0, false);
        let mut chunk = Vec::new();
        let mut offset = 0;
        while offset < self.geometry.bitmap_bytes {
            let length = (self.geometry.bitmap_bytes - offset).min(CHUNK);
            chunk.resize(usize::try_from(length).unwrap_or(0), 0);
            let read = self
                .image
                .file
                .read_exact_at(&mut chunk, self.geometry.bitmap + offset);
            read.map_err(|error| failed("read", self.image.disk, error))?;
            for &byte in &chunk {
                for (bits, is_set) in runs_of(byte) {
                    if is_set != in_image {
                        visit(in_image, run.clone())?;
                        run = run.end..run.end;
                        in_image = is_set;
                    }
                    run.end = (run.end + bits).min(sectors);
                }
            }
            offset += length;
        }
        visit(in_image, run)
    }
}

/// The runs of equal bits in a byte, from the lowest: how many, and which.
fn runs_of(byte: u8) -> impl Iterator<Item = (u64, bool)> {
    let mut left = byte;
    let mut bits = 8;
    std::iter::from_fn(move || {
        if bits == 0 {
            return None;
        }
        let is_set = left & 1 == 1;
        let run = if is_set {
            left.trailing_ones()
        } else {
            left.trailing_zeros()
        }
        .min(bits);
        left = left.checked_shr(run).unwrap_or(0);
        bits -= run;
        Some((run.into(), is_set))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_in_every_byte() {
        for byte in 0..=u8::MAX {
            let mut bits = runs_of(byte).flat_map(|(run, is_set)| (0..run).map(move |_| is_set));
            for bit in 0..8 {
                assert_eq!(bits.next(), Some(byte >> bit & 1 == 1), "{byte:08b}");
            }
            assert_eq!(bits.next(), None);
        }
    }
}
