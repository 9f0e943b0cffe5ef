//! The chart of the README.

use std::error::Error;

use millpond_bench::Ratio;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::rows::Row;

const WON: RGBColor = RGBColor(46, 125, 120);
const LOST: RGBColor = RGBColor(196, 104, 60);
const TITLE: &str = "Time relative to the best peer: less is better, thick line: the target, whiskers: quartiles";

/// Draws a bar for each row: the ratio to the best peer, in one colour where the target is met and in another where it
/// is not.
pub fn draw(path: &str, ratios: &[(Row, Ratio)]) -> Result<(), Box<dyn Error>> {
    let rows = ratios.len();
    let widest = ratios.iter().map(|(_, ratio)| ratio.high).fold(1.2, f64::max);
    let area = SVGBackend::new(path, (860, 90 + 26 * rows as u32)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(TITLE, ("sans-serif", 15))
        .margin(10)
        .x_label_area_size(28)
        .y_label_area_size(250)
        .build_cartesian_2d(0.0..widest * 1.1, (0..rows - 1).into_segmented())?;
    let title = |place: &SegmentValue<usize>| match place {
        SegmentValue::CenterOf(place) => ratios[rows - 1 - place].0.title.to_owned(),
        _ => String::new(),
    };
    chart
        .configure_mesh()
        .disable_y_mesh()
        .light_line_style(TRANSPARENT)
        .y_labels(rows)
        .y_label_formatter(&title)
        .label_style(("sans-serif", 13))
        .draw()?;
    let figure = TextStyle::from(("sans-serif", 12).into_font()).pos(Pos::new(HPos::Left, VPos::Center));
    for (place, (row, ratio)) in ratios.iter().rev().enumerate() {
        let (from, to) = (SegmentValue::Exact(place), SegmentValue::Exact(place + 1));
        let middle = SegmentValue::CenterOf(place);
        let colour = if ratio.median <= row.target { WON } else { LOST };
        let mut bar = Rectangle::new([(0.0, from.clone()), (ratio.median, to.clone())], colour.filled());
        bar.set_margin(4, 4, 0, 0);
        chart.draw_series([bar])?;
        let whisker = [(ratio.low, middle.clone()), (ratio.high, middle.clone())];
        let target = [(row.target, from), (row.target, to)];
        chart.draw_series([PathElement::new(whisker, BLACK), PathElement::new(target, BLACK.stroke_width(2))])?;
        let end = ratio.high.max(ratio.median).max(row.target) + widest * 0.01;
        chart.draw_series([Text::new(format!("{:.2}", ratio.median), (end, middle), figure.clone())])?;
    }
    let equal = [(1.0, SegmentValue::Exact(0)), (1.0, SegmentValue::Exact(rows))];
    chart.draw_series([PathElement::new(equal, BLACK.mix(0.4))])?;
    area.present()?;
    Ok(())
}
