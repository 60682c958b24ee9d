// Development only: npm run dev, then /gallery.html. No part of what is built.
import '../src/app.css'
import { mount } from 'svelte'
import Gallery from './Gallery.svelte'

mount(Gallery, { target: document.getElementById('app')! })
